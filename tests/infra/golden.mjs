// Evaluates the expressions of the golden pipeline: which snapshot it takes, and which it refuses. Reads the states on standard
// input.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import jsonata from "jsonata";

const states = JSON.parse(readFileSync(0, "utf8"));
const evaluate = async (text, variables) => jsonata(text.replace(/^\{%|%\}$/g, "")).evaluate({}, variables);
const snapshot = (DbSnapshotIdentifier, SnapshotCreateTime, more = {}) => ({ DbSnapshotIdentifier, SnapshotCreateTime, Status: "available", Encrypted: true, ...more });
const ago = (hours) => new Date(Date.now() - hours * 3_600_000).toISOString();

const StartTime = "2026-11-27T02:00:07.123Z";
assert.equal(await evaluate(states.Begin.Assign.target, { states: { context: { Execution: { StartTime } } } }), "kagero-golden-main-20261127020007");

const pages = [
  { DbSnapshots: [snapshot("production-1", ago(30)), snapshot("production-3", ago(6)), snapshot("other-9", ago(1))], Marker: "more" },
  { DbSnapshots: [snapshot("kagero-golden-main-1", ago(1)), snapshot("production-4", ago(1), { Status: "creating" })], Marker: "still more" },
  { DbSnapshots: [snapshot("production-2", ago(20))] },
];
let variables = { found: [] };
let turns = 0;
for (const page of pages) {
  const { Assign } = turns === 0 ? states.List : states.ListMore;
  const given = { ...variables, states: { result: page } };
  variables = { found: await evaluate(Assign.found, given), marker: await evaluate(Assign.marker, given) };
  turns += 1;
  const goesOn = await evaluate(states.IsThereMore.Choices[0].Condition, variables);
  assert.equal(goesOn, turns < pages.length);
}
assert.deepEqual(variables.found.map((it) => it.DbSnapshotIdentifier), ["production-1", "production-3", "production-2"]);

async function choice(found) {
  const source = await evaluate(states.Newest.Assign.source, { found });
  for (const { Condition, Next } of states.IsItFit.Choices) if (await evaluate(Condition, { source })) return [Next];
  return [states.IsItFit.Default, source.DbSnapshotIdentifier];
}
assert.deepEqual(await choice(variables.found), ["Restore", "production-3"]);
assert.deepEqual(await choice([snapshot("production-1", ago(2))]), ["Restore", "production-1"]);
assert.deepEqual(await choice([]), ["NoSnapshot"]);
assert.deepEqual(await choice([snapshot("production-1", ago(2), { Encrypted: false })]), ["NotEncrypted"]);
assert.deepEqual(await choice([snapshot("production-1", ago(49))]), ["TooOld"]);

const [ready, broken] = states.IsRestored.Choices;
const restored = (DbInstanceStatus, SecretStatus) => ({ instance: { DbInstanceStatus, ...(SecretStatus ? { MasterUserSecret: { SecretStatus } } : {}) } });
assert.equal(await evaluate(ready.Condition, restored("available", "active")), true);
assert.equal(await evaluate(ready.Condition, restored("available", "creating")), false);
assert.equal(await evaluate(ready.Condition, restored("creating")), false);
assert.equal(await evaluate(broken.Condition, restored("creating")), false);
assert.equal(await evaluate(broken.Condition, restored("incompatible-parameters")), true);
