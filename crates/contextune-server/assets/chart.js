// A line chart that grows, in the look of the report pages.

import { drawn, element } from "./dom.js";

const WIDTH = 400;
const HEIGHT = 200;
const LEFT = 50;
const RIGHT = 14;
const TOP = 10;
const BOTTOM = 34;

/** About `count` round numbers from zero that reach `top`. */
function ticks(top, count) {
  const rough = top / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, index) => ({ value: index * step, text: (index * step).toFixed(digits) }));
}

/** A figure with `name`; `update(points, epochs)` draws `{epoch, value}` points. */
export function chart(name, { highest, format, axis }) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const now = element("b");
  const figure = element("figure", {}, svg, element("figcaption", {}, `${name} `, now));

  function update(points, epochs) {
    if (points.length === 0) return;
    const top = highest ?? Math.max(1e-6, ...points.map((point) => point.value));
    const marks = ticks(top, 5);
    const reach = marks.at(-1).value;
    const x = (epoch) => LEFT + ((WIDTH - LEFT - RIGHT) * (epoch - 1)) / Math.max(1, epochs - 1);
    const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / reach;
    const parts = [];
    for (const { value, text } of marks) {
      parts.push(drawn("line", { class: value === 0 ? "axis" : "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
      parts.push(drawn("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, axis ? axis(value) : text));
    }
    for (const { value, text } of ticks(epochs, 5)) {
      if (value >= 1 && value <= epochs && Number.isInteger(value)) {
        parts.push(drawn("text", { x: x(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, text));
      }
    }
    parts.push(drawn("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, "epoch"));
    const first = points[0];
    const last = points.at(-1);
    const path = points.map((point, index) => `${index ? "L" : "M"}${x(point.epoch).toFixed(1)} ${y(point.value).toFixed(1)}`);
    parts.push(drawn("path", { class: "curve", d: path.join("") }));
    parts.push(drawn("circle", { class: "now", cx: x(last.epoch), cy: y(last.value), r: 3.5 }));
    svg.replaceChildren(...parts);
    now.textContent = format(last.value);
    svg.setAttribute("aria-label", `${name} by epoch: ${format(first.value)} after epoch ${first.epoch}, ${format(last.value)} after epoch ${last.epoch}`);
  }

  return { figure, update };
}
