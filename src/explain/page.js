"use strict";
// Plays the clip of a point of a picture: by a click, or with the arrow keys and Enter.
(() => {
  const sounds = new Map();
  for (const template of document.querySelectorAll("template[data-sound]")) {
    sounds.set(template.dataset.sound, template);
  }
  let playing = null;
  const play = (clip) => {
    const template = sounds.get(clip);
    if (!template) return;
    if (playing) playing.pause();
    playing = new Audio(template.innerHTML.trim());
    playing.play().catch(() => {});
  };
  for (const picture of document.querySelectorAll("svg")) {
    const points = [...picture.querySelectorAll("[data-clip]")].filter((p) => sounds.has(p.dataset.clip));
    if (points.length === 0) continue;
    points.forEach((point, i) => {
      point.setAttribute("tabindex", i === 0 ? "0" : "-1");
      point.setAttribute("role", "button");
      const title = point.querySelector("title");
      point.setAttribute("aria-label", title ? title.textContent : sounds.get(point.dataset.clip).dataset.caption);
      point.addEventListener("click", () => play(point.dataset.clip));
      point.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (step) {
          const next = points[(i + step + points.length) % points.length];
          point.setAttribute("tabindex", "-1");
          next.setAttribute("tabindex", "0");
          next.focus();
          event.preventDefault();
        } else if (event.key === "Enter" || event.key === " ") {
          play(point.dataset.clip);
          event.preventDefault();
        }
      });
    });
  }
  // One sound at a time.
  document.addEventListener("play", (event) => {
    for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
  }, true);
})();
