(() => {
  "use strict";
  const page = document.getElementById("page");
  const again = () => location.reload();
  const after = Number(page.dataset.after);

  const showLogsEnd = () => {
    for (const log of page.querySelectorAll("pre")) log.scrollTop = log.scrollHeight;
  };
  showLogsEnd();

  if (page.dataset.turn === "reload") {
    setTimeout(again, after);
    return;
  }

  const words = (ms) => {
    const s = Math.floor(ms / 1000);
    return s < 60 ? s + " s" : Math.floor(s / 60) + " min " + String(s % 60).padStart(2, "0") + " s";
  };
  let drawn = performance.now();
  setInterval(() => {
    for (const el of page.querySelectorAll("[data-ms]"))
      el.textContent = words(Number(el.dataset.ms) + performance.now() - drawn);
  }, 1000);

  const show = (view) => {
    if (view.page !== page.dataset.kind) return again();
    page.innerHTML = view.html;
    drawn = performance.now();
    showLogsEnd();
  };

  let polling = 0;
  const poll = async () => {
    try {
      const answer = await fetch("/.kagero/status", { cache: "no-store", headers: { accept: "application/json" } });
      const status = await answer.json();
      if (status.live || status.page !== page.dataset.kind) again();
    } catch (unreachable) { /* the next poll asks again */ }
  };

  const events = new EventSource("/.kagero/events");
  events.addEventListener("view", (event) => show(JSON.parse(event.data)));
  events.addEventListener("ready", again);
  events.addEventListener("reload", again);
  events.addEventListener("open", () => { clearInterval(polling); polling = 0; });
  events.addEventListener("error", () => { polling = polling || setInterval(poll, after); });
})();
