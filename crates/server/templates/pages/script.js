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
