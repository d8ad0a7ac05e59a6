"use strict";
// Adds to pages what they cannot do without: moments in the viewer's zone. Every page works without this file.

const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function showInZone(below) {
  for (const time of below.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      time.textContent = zoned.format(moment);
    }
  }
}

showInZone(document);

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
