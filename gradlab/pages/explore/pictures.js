/** The pictures: loss surface with path and arrows, loss curve, and the map of lr and keep. */

import { pixelOf, short, ticksOf } from "../shared/canvas.js";
import { FULL, LIMITS } from "./setting.js";
import { COLUMNS, DRAWS, ROWS, divergesOnFull, rateOf } from "./stability.js";
import { edge } from "./theory.js";

/**
 * @typedef {import("../shared/canvas.js").Axis} Axis
 * @typedef {import("../shared/canvas.js").Colours} Colours
 * @typedef {import("../shared/canvas.js").Picture} Picture
 * @typedef {import("./problem.js").Surface} Surface
 * @typedef {import("./simulation.js").Path} Path
 * @typedef {import("./setting.js").Setting} Setting
 */

/** @type {[number, number]} */
const STEEP_DIRECTION = [0.8, 0.6];
const LEVELS = 15;

/**
 * Return the axes of the loss surface: w1 to the right, w2 upwards, at one scale.
 * @param {Picture} picture
 */
export function surfaceAxes({ width, height }) {
  const half = (LIMITS.w1.to - LIMITS.w1.from) / 2;
  const scale = Math.min(width, height) / (2 * half);
  /** @param {{from: number, to: number}} limits @param {number} size @param {boolean} up @returns {Axis} */
  const axis = ({ from, to }, size, up) => {
    const [middle, reach] = [(from + to) / 2, size / 2 / scale];
    return { from: middle - reach, to: middle + reach, begin: up ? size : 0, end: up ? 0 : size, log: false };
  };
  return { x: axis(LIMITS.w1, width, false), y: axis(LIMITS.w2, height, true), scale };
}

/**
 * Draw the level lines of the loss on all samples.
 * @param {Picture} picture
 * @param {Surface} surface
 * @param {Colours} colours
 */
export function drawSurface(picture, { curvatures, minimum }, colours) {
  const context = picture.begin();
  const { x, y, scale } = surfaceAxes(picture);
  const center = [pixelOf(x, minimum[0]), pixelOf(y, minimum[1])];
  const angle = -Math.atan2(STEEP_DIRECTION[1], STEEP_DIRECTION[0]);
  for (let nth = LEVELS - 1; nth >= 0; nth--) {
    const level = 0.06 * 2.1 ** nth;
    const [a, b] = curvatures.map((curvature) => scale * Math.sqrt((2 * level) / curvature));
    context.beginPath();
    context.ellipse(center[0], center[1], a, b, angle, 0, 2 * Math.PI);
    context.globalAlpha = 0.055;
    context.fillStyle = colours.soft;
    context.fill();
    context.globalAlpha = 0.35;
    context.lineWidth = 0.7;
    context.strokeStyle = colours.soft;
    context.stroke();
  }
  context.globalAlpha = 1;
  drawWeightTicks(context, x, y, picture, colours);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Axis} x
 * @param {Axis} y
 * @param {{width: number, height: number}} size
 * @param {Colours} colours
 */
function drawWeightTicks(context, x, y, { width, height }, colours) {
  context.fillStyle = colours.faint;
  context.textAlign = "center";
  for (const tick of ticksOf(x, 6)) {
    const at = pixelOf(x, tick);
    if (at > 40 && at < width - 30) context.fillText(short(tick), at, height - 6);
  }
  context.textAlign = "left";
  for (const tick of ticksOf(y, 6)) {
    const at = pixelOf(y, tick);
    if (at > 24 && at < height - 24) context.fillText(short(tick), 6, at + 4);
  }
  context.font = "italic 13px system-ui, sans-serif";
  context.fillStyle = colours.ink;
  context.fillText("w₂", 6, 15);
  context.textAlign = "right";
  context.fillText("w₁", width - 6, height - 6);
}

/**
 * Draw the path of the weights up to a step boldly, the rest faintly, over the surface.
 * @param {Picture} picture
 * @param {HTMLCanvasElement} background
 * @param {Surface} surface
 * @param {Path} path
 * @param {number} at
 * @param {Colours} colours
 */
export function drawPath(picture, background, { minimum }, path, at, colours) {
  const context = picture.begin();
  if (!picture.width || !picture.height) return;
  context.drawImage(background, 0, 0, picture.width, picture.height);
  const { x, y } = surfaceAxes(picture);
  drawCross(context, pixelOf(x, minimum[0]), pixelOf(y, minimum[1]), colours.ink);
  context.strokeStyle = colours.one;
  context.lineWidth = 1;
  context.globalAlpha = 0.3;
  trace(context, path.w1, path.w2, at, path.steps, x, y);
  context.globalAlpha = 1;
  context.lineWidth = at > 300 ? 1.2 : 1.8;
  trace(context, path.w1, path.w2, 0, at, x, y);
  if (at <= 300) drawDots(context, path, at, x, y, colours.one);
  drawSpot(context, pixelOf(x, path.w1[at]), pixelOf(y, path.w2[at]), colours);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {string} colour
 */
function drawCross(context, x, y, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x - 5, y);
  context.lineTo(x + 5, y);
  context.moveTo(x, y - 5);
  context.lineTo(x, y + 5);
  context.stroke();
}

/**
 * Draw a line through points from one to another, while they are finite.
 * @param {CanvasRenderingContext2D} context
 * @param {Float64Array} xs
 * @param {Float64Array} ys
 * @param {number} from
 * @param {number} to
 * @param {Axis} x
 * @param {Axis} y
 */
function trace(context, xs, ys, from, to, x, y) {
  context.beginPath();
  for (let t = from; t <= to; t++) {
    const [px, py] = [pixelOf(x, xs[t]), pixelOf(y, ys[t])];
    if (Number.isNaN(px) || Number.isNaN(py)) break;
    if (t === from) context.moveTo(px, py);
    else if (xs[t] !== xs[t - 1] || ys[t] !== ys[t - 1]) context.lineTo(px, py);
  }
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Path} path
 * @param {number} at
 * @param {Axis} x
 * @param {Axis} y
 * @param {string} colour
 */
function drawDots(context, path, at, x, y, colour) {
  context.fillStyle = colour;
  context.beginPath();
  for (let t = 1; t <= at; t++) {
    if (!path.due[t - 1]) continue;
    const [px, py] = [pixelOf(x, path.w1[t]), pixelOf(y, path.w2[t])];
    if (Number.isNaN(px) || Number.isNaN(py)) break;
    context.moveTo(px + 2, py);
    context.arc(px, py, 2, 0, 7);
  }
  context.fill();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {Colours} colours
 */
function drawSpot(context, x, y, colours) {
  context.beginPath();
  context.arc(x, y, 4.5, 0, 7);
  context.fillStyle = colours.one;
  context.fill();
  context.lineWidth = 1.5;
  context.strokeStyle = colours.card;
  context.stroke();
}

/**
 * Draw what moves the weights at a step, each times −lr: what `.grad` kept, the fresh gradient, and the update.
 * @param {Picture} picture
 * @param {Path} path
 * @param {number} at
 * @param {number} lr
 * @param {Colours} colours
 * @returns {number} how many times the arrows are enlarged; 0 if there are none
 */
export function drawArrows({ context, width, height }, path, at, lr, colours) {
  if (at >= path.steps) return 0;
  const { x, y, scale } = surfaceAxes(/** @type {Picture} */ ({ width, height }));
  const fresh = [-lr * path.fresh1[at], -lr * path.fresh2[at]];
  const update = [-lr * path.grad1[at], -lr * path.grad2[at]];
  const kept = [update[0] - fresh[0], update[1] - fresh[1]];
  const longest = scale * Math.max(...[fresh, update, kept].map(([dx, dy]) => Math.hypot(dx, dy)));
  if (!(longest > 0 && longest < 1e9)) return 0;
  const factor = longest >= 60 ? 1 : roundUp(60 / longest);
  const from = [pixelOf(x, path.w1[at]), pixelOf(y, path.w2[at])];
  /** @param {number[]} begin @param {number[]} by @param {string} colour @param {number} thick */
  const arrow = (begin, by, colour, thick) => {
    const end = [begin[0] + by[0] * scale * factor, begin[1] - by[1] * scale * factor];
    drawArrow(context, begin, end, colour, thick, colours.card);
    return end;
  };
  if (path.due[at]) arrow(from, update, colours.ink, 2.5);
  arrow(arrow(from, kept, colours.two, 2.5), fresh, colours.three, 2.5);
  return factor;
}

/**
 * Return the next larger number of 1, 2, 5, 10, 20, …
 * @param {number} value
 */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return (value <= power ? 1 : value <= 2 * power ? 2 : value <= 5 * power ? 5 : 10) * power;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} begin
 * @param {number[]} end
 * @param {string} colour
 * @param {number} thick
 * @param {string} halo
 */
function drawArrow(context, begin, end, colour, thick, halo) {
  const [dx, dy] = [end[0] - begin[0], end[1] - begin[1]];
  const length = Math.hypot(dx, dy);
  if (length < 1.5) return;
  const head = Math.min(10, length * 0.6);
  const [ux, uy] = [dx / length, dy / length];
  const neck = [end[0] - ux * head, end[1] - uy * head];
  for (const [style, width] of /** @type {[string, number][]} */ ([[halo, thick + 2.5], [colour, thick]])) {
    context.strokeStyle = context.fillStyle = style;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(begin[0], begin[1]);
    context.lineTo(neck[0], neck[1]);
    context.stroke();
    context.beginPath();
    context.moveTo(end[0], end[1]);
    context.lineTo(neck[0] - uy * head * 0.5, neck[1] + ux * head * 0.5);
    context.lineTo(neck[0] + uy * head * 0.5, neck[1] - ux * head * 0.5);
    context.closePath();
    context.fill();
    if (style === halo) context.stroke();
  }
}

/**
 * Return the step from which the weights are outside the picture until the end; −1 if they end inside.
 * @param {Picture} picture
 * @param {Path} path
 */
export function leavesAt(picture, { steps, w1, w2 }) {
  const { x, y } = surfaceAxes(picture);
  let from = steps + 1;
  while (from > 0 && !(w1[from - 1] >= x.from && w1[from - 1] <= x.to && w2[from - 1] >= y.from && w2[from - 1] <= y.to)) from--;
  return from <= steps ? from : -1;
}

/**
 * Write a note in the corner of the loss surface.
 * @param {Picture} picture
 * @param {string} note
 * @param {Colours} colours
 */
export function drawNote({ context, width }, note, colours) {
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "right";
  context.lineWidth = 4;
  context.strokeStyle = colours.card;
  context.strokeText(note, width - 6, 15);
  context.fillStyle = colours.faint;
  context.fillText(note, width - 6, 15);
}

/**
 * What the loss curve shows. Lines without values are left out.
 * @typedef {{loss: Float64Array, mean: Float64Array, cleared: Float64Array | null, theory: Float64Array | null,
 *   steps: number, diverged: number}} Curves
 */

/**
 * Return the axes of the loss curve: logarithmic losses within the picture, single steps in full or nearly so.
 * @param {Picture} picture
 * @param {Curves} curves
 * @returns {{x: Axis, y: Axis}}
 */
export function curveAxes({ width, height }, { mean, cleared, theory, steps }) {
  const first = mean[0] || 1;
  let low = Infinity, high = 0; // prettier-ignore
  for (const line of [mean, cleared, theory]) {
    if (!line) continue;
    for (let t = 0; t < steps; t++) {
      if (line[t] < low) low = line[t];
      if (line[t] > high) high = line[t];
    }
  }
  low = Math.max(low, 1e-6 * first) / 3;
  high = Math.min(high, 1e5 * first) * 3;
  return {
    x: { from: 0, to: steps - 1, begin: 46, end: width - 12, log: false },
    y: { from: low, to: Math.max(high, 10 * low), begin: height - 30, end: 12, log: true },
  };
}

/**
 * Draw the losses, with a mark at a step.
 * @param {Picture} picture
 * @param {Curves} curves
 * @param {number} at
 * @param {{axisStep: string, diverged: string}} words
 * @param {Colours} colours
 */
export function drawCurves(picture, curves, at, words, colours) {
  const context = picture.begin();
  const { x, y } = curveAxes(picture, curves);
  drawFrame(context, picture, x, y, words.axisStep, colours);
  context.save();
  context.beginPath();
  context.rect(x.begin - 1, y.end - 6, x.end - x.begin + 6, y.begin - y.end + 7);
  context.clip();
  const isNoisy = curves.mean !== curves.loss;
  if (curves.cleared) drawLine(context, curves.cleared, curves.steps, x, y, colours.faint, 1.5);
  if (isNoisy) drawLine(context, curves.loss, curves.steps, x, y, colours.one, 0.8, 0.4);
  drawLine(context, curves.mean, curves.steps, x, y, colours.one, 2.2);
  if (curves.theory) {
    context.setLineDash([5, 5]);
    drawLine(context, curves.theory, curves.steps, x, y, colours.ink, 1.3);
    context.setLineDash([]);
  }
  context.restore();
  if (curves.diverged >= 0) drawDivergence(context, pixelOf(x, curves.diverged), x, y, words.diverged, colours);
  if (at < curves.steps) drawMark(context, curves, at, x, y, colours);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Picture} picture
 * @param {Axis} x
 * @param {Axis} y
 * @param {string} label
 * @param {Colours} colours
 */
function drawFrame(context, { width, height }, x, y, label, colours) {
  context.strokeStyle = colours.grid;
  context.fillStyle = colours.faint;
  context.lineWidth = 1;
  context.textAlign = "right";
  for (const tick of ticksOf(y, 6)) {
    const at = Math.round(pixelOf(y, tick)) + 0.5;
    context.beginPath();
    context.moveTo(x.begin, at);
    context.lineTo(x.end, at);
    context.stroke();
    context.fillText(short(tick), x.begin - 6, at + 4);
  }
  context.textAlign = "center";
  for (const tick of ticksOf(x, width > 400 ? 5 : 3)) {
    if (pixelOf(x, tick) < x.end - 70) context.fillText(short(tick), pixelOf(x, tick), height - 10);
  }
  context.textAlign = "right";
  context.fillText(label, x.end, height - 10);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Float64Array} losses
 * @param {number} steps
 * @param {Axis} x
 * @param {Axis} y
 * @param {string} colour
 * @param {number} width
 * @param {number} alpha
 */
function drawLine(context, losses, steps, x, y, colour, width, alpha = 1) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.globalAlpha = alpha;
  context.beginPath();
  const perStep = (x.end - x.begin) / (x.to - x.from);
  const scale = (y.end - y.begin) / Math.log(y.to / y.from);
  for (let t = 0; t < steps; t++) {
    const at = y.begin + scale * Math.log(losses[t] / y.from);
    if (Number.isNaN(at)) break;
    context.lineTo(x.begin + perStep * t, Math.max(-50, Math.min(y.begin + 50, at)));
  }
  context.stroke();
  context.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} at
 * @param {Axis} x
 * @param {Axis} y
 * @param {string} text
 * @param {Colours} colours
 */
function drawDivergence(context, at, x, y, text, colours) {
  context.strokeStyle = context.fillStyle = colours.bad;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(at, y.begin);
  context.lineTo(at, y.end);
  context.stroke();
  const onLeft = at > (x.begin + x.end) / 2;
  context.textAlign = onLeft ? "right" : "left";
  context.font = "600 13px system-ui, sans-serif";
  context.fillText(text, at + (onLeft ? -6 : 6), y.begin - 8);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Curves} curves
 * @param {number} at
 * @param {Axis} x
 * @param {Axis} y
 * @param {Colours} colours
 */
function drawMark(context, curves, at, x, y, colours) {
  const px = pixelOf(x, at);
  context.strokeStyle = colours.faint;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(px, y.begin);
  context.lineTo(px, y.end);
  context.stroke();
  const loss = curves.loss[at];
  if (!Number.isFinite(loss)) return;
  const py = Math.max(y.end, Math.min(y.begin, pixelOf(y, loss)));
  drawSpot(context, px, py, colours);
  context.font = "600 12px system-ui, sans-serif";
  const text = short(loss);
  const room = context.measureText(text).width + 12;
  const onLeft = px + room > x.end;
  context.textAlign = onLeft ? "right" : "left";
  context.lineWidth = 4;
  context.strokeStyle = colours.card;
  context.strokeText(text, px + (onLeft ? -9 : 9), py - 8);
  context.fillStyle = colours.ink;
  context.fillText(text, px + (onLeft ? -9 : 9), py - 8);
}

/**
 * Return the axes of the map.
 * @param {Picture} picture
 * @returns {{x: Axis, y: Axis}}
 */
export function mapAxes({ width, height }) {
  return {
    x: { from: LIMITS.lr.from, to: LIMITS.lr.to, begin: 46, end: width - 10, log: true },
    y: { from: LIMITS.keep.from, to: LIMITS.keep.to, begin: height - 32, end: 12, log: false },
  };
}

/**
 * Draw the map: colours of cells, the edge on full batches, axes.
 * @param {Picture} picture
 * @param {import("./stability.js").StabilityMap} map
 * @param {Surface} surface
 * @param {string} edgeLabel
 * @param {Colours} colours
 */
export function drawMap(picture, map, surface, edgeLabel, colours) {
  const context = picture.begin();
  const { x, y } = mapAxes(picture);
  const isFull = map.setting.batch === FULL;
  const [columns, rows] = isFull ? [64, 32] : [COLUMNS, ROWS];
  const shades = Array.from({ length: 21 }, (_, nth) => shade(nth / 20, colours));
  const left = (/** @type {number} */ column) => Math.floor(x.begin + (column / columns) * (x.end - x.begin));
  /** Return where a row begins: halfway from the one below it. @param {number} row */
  const bottom = (row) => Math.floor(pixelOf(y, Math.min(1, Math.max(0, (row - 0.5) / (rows - 1)))));
  const shadeAt = (/** @type {number} */ column, /** @type {number} */ row) =>
    Math.round(20 * (isFull ? slowness(surface, (column + 0.5) / columns, row / (rows - 1)) : map.counts[row * columns + column] / DRAWS));
  for (let row = 0; row < rows; row++) {
    for (let column = 0, end = 0; column < columns; column = end) {
      const nth = shadeAt(column, row);
      for (end = column + 1; end < columns && shadeAt(end, row) === nth; ) end++; // cells of one shade are one
      if (nth < 0) continue;
      context.fillStyle = shades[nth];
      context.fillRect(left(column), bottom(row + 1), left(end) - left(column), bottom(row) - bottom(row + 1));
    }
  }
  drawEdge(context, x, y, surface.curvatures[0], edgeLabel, colours);
  drawMapTicks(context, picture, x, y, colours);
}

/**
 * Return a share from 0, settling at once, to 0.5, not at all; 1 if training diverges on full batches.
 * @param {Surface} surface
 * @param {number} position of lr
 * @param {number} keep
 */
function slowness({ curvatures }, position, keep) {
  const lr = LIMITS.lr.from * (LIMITS.lr.to / LIMITS.lr.from) ** position;
  if (divergesOnFull(lr, keep, curvatures[0])) return 1;
  const updates = -1 / Math.log10(Math.min(rateOf(lr, keep, curvatures), 1 - 1e-9)); // until the error is a tenth
  return 0.5 * Math.min(1, Math.max(0, Math.log10(updates) / 3.5));
}

/**
 * Return the colour of a share: of the good one at 0, of the card between, of the bad one at 1.
 * @param {number} share
 * @param {Colours} colours
 */
function shade(share, { good, bad, card }) {
  const [colour, part] = share < 0.5 ? [good, 1 - 2 * share] : [bad, 2 * share - 1];
  return `color-mix(in oklab, ${colour} ${Math.round(72 * part)}%, ${card})`;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Axis} x
 * @param {Axis} y
 * @param {number} curvature
 * @param {string} label
 * @param {Colours} colours
 */
function drawEdge(context, x, y, curvature, label, colours) {
  context.strokeStyle = colours.ink;
  context.lineWidth = 2;
  context.setLineDash([6, 4]);
  context.beginPath();
  for (let nth = 0; nth <= 40; nth++) {
    const at = pixelOf(x, edge(nth / 40) / curvature);
    if (at <= x.end) context.lineTo(at, pixelOf(y, nth / 40));
  }
  context.stroke();
  context.setLineDash([]);
  const at = Math.min(pixelOf(x, edge(0) / curvature), x.end);
  const onLeft = at + context.measureText(label).width + 12 > x.end;
  context.textAlign = onLeft ? "right" : "left";
  context.strokeStyle = colours.card;
  context.lineWidth = 4;
  context.fillStyle = colours.ink;
  context.strokeText(label, at + (onLeft ? -6 : 8), y.begin - 8);
  context.fillText(label, at + (onLeft ? -6 : 8), y.begin - 8);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Picture} picture
 * @param {Axis} x
 * @param {Axis} y
 * @param {Colours} colours
 */
function drawMapTicks(context, { height }, x, y, colours) {
  context.fillStyle = colours.faint;
  context.textAlign = "center";
  for (const tick of ticksOf(x, 4)) context.fillText(short(tick), pixelOf(x, tick), height - 12);
  context.textAlign = "right";
  for (const tick of [0, 0.5, 1]) context.fillText(short(tick), x.begin - 6, pixelOf(y, tick) + (tick ? 6 : -1));
  context.fillStyle = colours.ink;
  context.fillText("lr", x.end, height - 12);
  context.fillText("keep", x.begin - 6, (y.begin + y.end) / 2 - 12);
}

/**
 * Draw the colours of the map from 0 to 1.
 * @param {Picture} picture
 * @param {Colours} colours
 */
export function drawScale(picture, colours) {
  const context = picture.begin();
  const { width, height } = picture;
  for (let nth = 0; nth < 20; nth++) {
    context.fillStyle = shade(nth / 19, colours);
    context.fillRect((nth * width) / 20, 0, width / 20 + 1, height);
  }
}
