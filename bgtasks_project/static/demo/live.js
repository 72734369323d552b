// Keeps the start page up to date: fetches the live tasks each second, while the page is visible.
"use strict";

const EVERY = 1000; // Milliseconds.
const PATIENCE = 2500; // After this time the server counts as not answering.

const live = document.getElementById("live");
const said = document.getElementById("said");
let shown = "";
let isAsking = false;

async function refresh() {
  if (document.hidden || isAsking) return;
  isAsking = true;
  try {
    const response = await fetch(live.dataset.url, { signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(`${response.status}`);
    const fragment = await response.text();
    // Drawn only after a change, so that a selected text or a focused link stays.
    if (fragment !== shown) live.innerHTML = shown = fragment; // Rendered and escaped by the server.
    live.removeAttribute("data-trouble");
  } catch {
    live.dataset.trouble = "The server does not answer: it is blocked, or it has stopped.";
  } finally {
    isAsking = false;
  }
}

async function press(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const name = form.querySelector("strong").textContent;
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
    });
    const answer = await response.json();
    said.textContent = response.ok
      ? `${name}: fired ${answer.task_ids.length === 1 ? `task ${answer.task_ids[0]}` : `${answer.task_ids.length} tasks`}.`
      : `${name}: ${answer.error}`;
  } catch {
    said.textContent = `${name}: the server does not answer.`;
  }
  refresh();
}

for (const form of document.querySelectorAll("form")) form.addEventListener("submit", press);
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, EVERY);
