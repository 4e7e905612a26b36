"use strict";
// Tells the point nearest to the pointer. data-points names the points: place from 0 to 1, and lines of text.
for (const plot of document.querySelectorAll("[data-points]")) {
  const points = JSON.parse(document.getElementById(plot.dataset.points).textContent);
  const hair = plot.querySelector(".hair");
  const tip = plot.querySelector(".tip");
  const tell = (event) => {
    const svg = [...plot.querySelectorAll("svg")].find((one) => one.getClientRects().length);
    const frame = svg.querySelector(".background").getBoundingClientRect();
    const box = plot.getBoundingClientRect();
    const at = (event.clientX - frame.left) / frame.width;
    const [place, [head, ...lines]] = points.reduce((best, one) =>
      Math.abs(one[0] - at) < Math.abs(best[0] - at) ? one : best);
    const x = frame.left - box.left + place * frame.width;
    const texts = [head, ...lines].map((text, number) => {
      const line = document.createElement(number ? "span" : "b");
      line.textContent = text;
      return line;
    });
    tip.replaceChildren(...texts);
    hair.hidden = tip.hidden = false;
    Object.assign(hair.style, { left: `${x}px`, top: `${frame.top - box.top}px`, height: `${frame.height}px` });
    const beside = x + 12 + tip.offsetWidth > box.width ? x - 12 - tip.offsetWidth : x + 12;
    tip.style.left = `${Math.max(0, beside)}px`;
  };
  const hide = () => { hair.hidden = tip.hidden = true; };
  plot.addEventListener("pointermove", tell);
  plot.addEventListener("pointerdown", tell);
  plot.addEventListener("pointerleave", hide);
}
