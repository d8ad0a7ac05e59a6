"use strict";
// Adds to pages what they cannot do without: moments in the viewer's zone, and what happens while one looks on. Every
// page works without this file.

const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

function showInZone(below) {
  for (const time of below.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      time.textContent = zoned.format(moment);
    }
  }
  for (const mark of below.querySelectorAll("svg [data-time]")) {
    mark.textContent = clock.format(new Date(mark.dataset.time));
  }
}

// The page of what happens: rows are added as they come, or counted while it is paused.
const LIVE_ROWS_MAX = 200;
const SUMMARY_EVERY_MS = 5000;
const LOOKS = { delivered: "good", dead: "bad", pending: "warn" };

function followLive(live) {
  const find = (name) => live.querySelector(`[data-${name}]`);
  const [rows, pause, line, summary] = ["rows", "pause", "line", "summary"].map(find);
  const row = live.querySelector("template").content.firstElementChild;
  let waiting = [];
  let came = 0;
  let paused = false;
  let heard = { arrival: 0, delivery: 0 };

  function made(kind, seen) {
    const made = row.cloneNode(true);
    const word = kind === "arrival" ? seen.kind : seen.state;
    made.querySelector("time").dateTime = kind === "arrival" ? seen.recorded_at : seen.ended_at;
    const state = made.querySelector(".state");
    state.textContent = word;
    state.classList.add(LOOKS[word] ?? "quiet");
    const put = (name, text) => {
      const cell = made.querySelector(`[data-${name}]`);
      if (cell) {
        cell.textContent = text;
      }
    };
    put("account", seen.account);
    put("what", kind === "arrival" ? seen.path : seen.subscription);
    put("more", kind === "arrival" ? aboutArrival(seen) : aboutDelivery(seen));
    showInZone(made);
    return made;
  }

  function show(fresh) {
    live.querySelector("table").hidden = false;
    find("empty").hidden = true;
    rows.prepend(...fresh.reverse());
    while (rows.childElementCount > LIVE_ROWS_MAX) {
      rows.lastElementChild.remove();
    }
  }

  function add(kind, message) {
    const fresh = made(kind, JSON.parse(message.data));
    heard[kind] += 1;
    if (!paused) {
      show([fresh]);
      return;
    }
    came += 1;
    waiting = [...waiting.slice(1 - LIVE_ROWS_MAX), fresh];
    pause.textContent = `Go on (${came} came)`;
  }

  function say(text, look) {
    line.textContent = text;
    line.className = `state ${look}`;
  }

  pause.hidden = false;
  line.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) {
      show(waiting);
      waiting = [];
      came = 0;
    }
  });
  const stream = new EventSource(live.dataset.live);
  stream.addEventListener("open", () => say("live", "good"));
  stream.addEventListener("error", () => {
    const ended = stream.readyState === EventSource.CLOSED;
    say(ended ? "not connected: reload" : "connecting again", ended ? "bad" : "warn");
  });
  stream.addEventListener("arrival", (message) => add("arrival", message));
  stream.addEventListener("delivery", (message) => add("delivery", message));
  stream.addEventListener("missed", () => {
    summary.textContent = "Some deliveries were missed while the connection was away. Reload to see how they stand.";
  });
  setInterval(() => {
    if (heard.arrival + heard.delivery > 0) {
      summary.textContent = `Lately: ${heard.arrival} arrivals, ${heard.delivery} deliveries.`;
      heard = { arrival: 0, delivery: 0 };
    }
  }, SUMMARY_EVERY_MS);
}

function aboutArrival(seen) {
  if (seen.previous_path !== null) {
    return `from ${seen.previous_path}`;
  }
  return seen.size === null ? "" : size(seen.size);
}

function aboutDelivery(seen) {
  const attempt = seen.attempts > 1 ? `, attempt ${seen.attempts}` : "";
  const detail = seen.detail === null ? "" : `: ${seen.detail}`;
  return `${seen.status ?? "no answer"}${attempt}${detail}`;
}

function size(bytes) {
  let [rest, unit] = [bytes, 0];
  while (rest >= 1024 && unit < 4) {
    [rest, unit] = [rest / 1024, unit + 1];
  }
  const shown = unit > 0 && rest < 10 ? Math.floor(rest * 10) / 10 : Math.floor(rest);
  return `${unit > 0 && rest < 10 ? shown.toFixed(1) : shown} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

showInZone(document);
document.querySelectorAll("[data-live]").forEach(followLive);

// A fresh key without leaving the page; without this, the button posts the form and the server fills the field.
for (const button of document.querySelectorAll("button[data-generate]")) {
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    const answer = await fetch(button.dataset.generate, { headers: { requesttoken: button.dataset.token } });
    const field = document.getElementById(button.dataset.fills);
    if (answer.ok && field) {
      field.value = (await answer.json()).secret;
      field.focus();
    } else {
      button.form.requestSubmit(button);
    }
  });
}
