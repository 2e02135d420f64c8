// Relative times, and a page that reads itself again when something has changed.
"use strict";

function ago(ms) {
  const s = Math.round((Date.now() - ms) / 1000);
  if (s < 10) return "just now";
  if (s < 60) return `${s} seconds ago`;
  if (s < 3600) return `${Math.floor(s / 60)} minute${s < 120 ? "" : "s"} ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} hour${s < 7200 ? "" : "s"} ago`;
  return new Date(ms).toLocaleDateString();
}

function showTimes() {
  for (const time of document.querySelectorAll("time[data-ms]")) time.textContent = ago(Number(time.dataset.ms));
}

let reading = false;
let again = false;

async function readAgain() {
  if (reading) { again = true; return; }
  reading = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#live");
    const old = document.querySelector("#live");
    if (!fresh || !old) return;
    keep(old, fresh);
    old.replaceWith(fresh);
    showTimes();
    if (fresh.focusAfter) { fresh.focusAfter.focus(); fresh.focusAfter.setSelectionRange(...fresh.caret); }
  } finally {
    reading = false;
    if (again) { again = false; readAgain(); }
  }
}

// What the reader has typed, opened or closed stays as it is.
function keep(old, fresh) {
  const textarea = old.querySelector("textarea");
  const twin = fresh.querySelector("textarea");
  if (textarea && twin) {
    twin.value = textarea.value;
    if (document.activeElement === textarea) {
      fresh.focusAfter = twin;
      fresh.caret = [textarea.selectionStart, textarea.selectionEnd];
    }
  }
  for (const details of old.querySelectorAll("details[data-keep]")) {
    const same = fresh.querySelector(`details[data-keep="${details.dataset.keep}"]`);
    if (same) same.open = details.open;
  }
  for (const comment of old.querySelectorAll("[data-comment]")) {
    const same = fresh.querySelector(`[data-comment="${comment.dataset.comment}"]`);
    if (!same) continue;
    const folds = same.querySelectorAll("details");
    comment.querySelectorAll("details").forEach((fold, i) => { if (folds[i] && fold.open) folds[i].open = true; });
    if (comment.innerHTML !== same.innerHTML) same.closest(".box")?.classList.add("fresh");
  }
}

showTimes();
setInterval(showTimes, 5000);
const source = new EventSource(document.body.dataset.live);
source.addEventListener("changed", (event) => {
  if (event.data !== document.querySelector("#live")?.dataset.version) readAgain();
});
source.addEventListener("error", () => { document.querySelector(".offline").hidden = false; });
source.addEventListener("open", () => {
  const offline = document.querySelector(".offline");
  if (!offline.hidden) { offline.hidden = true; readAgain(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) event.target.form.requestSubmit();
});
