// The smallest probot app: verifies the signature, parses the payload, calls one handler that does nothing.
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { Probot, createNodeMiddleware } from "probot";

const { privateKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
  publicKeyEncoding: { type: "spki", format: "pem" },
});
const probot = new Probot({ appId: 1, privateKey, secret: process.argv[2], logLevel: "fatal" });
const app = (robot) => robot.on("pull_request", async () => {});
const middleware = await createNodeMiddleware(app, { probot, webhooksPath: "/webhook/github" });
const server = createServer((request, response) => {
  middleware(request, response, () => response.writeHead(404).end());
});
server.listen(0, "127.0.0.1", () => console.log(`ready ${server.address().port}`));
