// Reads the page again every second and a half, and swaps in the parts that have changed.
"use strict";

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const twin = fresh.getElementById(part.id);
    if (!twin || twin.innerHTML === part.innerHTML) continue;
    const before = new Map([...part.querySelectorAll("tr[data-id]")].map((row) => [row.dataset.id, row.dataset.status]));
    part.replaceWith(twin);
    for (const row of twin.querySelectorAll("tr[data-id]")) {
      if (before.get(row.dataset.id) !== row.dataset.status) row.classList.add("changed");
    }
  }
}

setInterval(() => refresh().catch(() => {}), 1500);
