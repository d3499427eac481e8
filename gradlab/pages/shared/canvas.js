/** Canvas pictures: sharp on every screen, in the colours of the page, with axes. */

/**
 * The colours of the page, by the names of its custom properties without dashes.
 * @typedef {Record<"ink" | "faint" | "grid" | "card" | "one" | "two" | "three" | "soft" | "good" | "bad", string>} Colours
 */

/** @returns {Colours} */
export function coloursOf(/** @type {Element} */ element) {
  const style = getComputedStyle(element);
  /** @param {string} name */
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: colour("ink"), faint: colour("faint"), grid: colour("grid"), card: colour("card"), one: colour("one"),
    two: colour("two"), three: colour("three"), soft: colour("soft"), good: colour("good"), bad: colour("bad"),
  }; // prettier-ignore
}

/** A canvas with its context, and its size in CSS pixels. */
export class Picture {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.width = 0;
    this.height = 0;
  }

  /**
   * Take the size of the canvas in the page, now and whenever it changes.
   * @param {() => void} onResize
   */
  follow(onResize) {
    const { canvas } = this;
    const measure = () => this.resize(canvas.clientWidth, canvas.clientHeight);
    new ResizeObserver(() => measure() && onResize()).observe(canvas);
    measure();
    return this;
  }

  /**
   * Set the size. Return whether it changed.
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    const ratio = window.devicePixelRatio || 1;
    const pixels = [Math.round(width * ratio), Math.round(height * ratio)];
    this.width = width;
    this.height = height;
    if (this.canvas.width === pixels[0] && this.canvas.height === pixels[1]) return false;
    [this.canvas.width, this.canvas.height] = pixels;
    return true;
  }

  /** Clear the canvas and return its context, with CSS pixels as units. */
  begin() {
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const ratio = canvas.width / (this.width || 1);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "12px system-ui, sans-serif";
    context.lineJoin = "round";
    context.lineCap = "round";
    return context;
  }
}

/**
 * An axis: pixels of values, with ticks.
 * @typedef {{from: number, to: number, begin: number, end: number, log: boolean}} Axis
 */

/**
 * Return the pixel of a value, at most a few thousand pixels outside.
 * @param {Axis} axis
 * @param {number} value
 */
export function pixelOf({ from, to, begin, end, log }, value) {
  const share = log ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from);
  return Math.max(-4000, Math.min(4000, begin + (end - begin) * share));
}

/**
 * Return the value at a pixel.
 * @param {Axis} axis
 * @param {number} pixel
 */
export function valueAtPixel({ from, to, begin, end, log }, pixel) {
  const share = (pixel - begin) / (end - begin);
  return log ? from * (to / from) ** share : from + (to - from) * share;
}

/**
 * Return about `count` round values along an axis.
 * @param {Axis} axis
 * @param {number} count
 */
export function ticksOf({ from, to, log }, count) {
  const ticks = [];
  if (log) {
    const decades = Math.log10(to / from);
    const stride = Math.max(1, Math.ceil(decades / count));
    const first = Math.ceil(Math.log10(from) - 1e-9);
    for (let power = first; power <= Math.log10(to) + 1e-9; power += stride) ticks.push(10 ** power);
    if (ticks.length > 1) return ticks;
    return [1, 2, 5].flatMap((digit) => [-1, 0].map((shift) => digit * 10 ** (first + shift))).filter((tick) => tick >= from && tick <= to); // prettier-ignore
  }
  const rough = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const stride = [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= rough) ?? rough;
  for (let tick = Math.ceil(from / stride); tick * stride <= to * (1 + 1e-12); tick++) ticks.push(tick * stride);
  return ticks;
}

/**
 * Return a short form of a number.
 * @param {number} value
 * @param {number} digits of numbers that are neither tiny nor huge
 */
export function short(value, digits = 3) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "nan";
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e5)) {
    const [factor, power] = value.toExponential(1).split("e");
    return `${factor.replace(/\.0$/, "")}e${Number(power)}`.replace(/-/g, "−");
  }
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

/**
 * Return short forms of two numbers, with as many digits as they need to look different.
 * @template {string} K
 * @param {Record<K, number>} values
 * @returns {Record<K, string>}
 */
export function shortApart(values) {
  const names = /** @type {K[]} */ (Object.keys(values));
  let digits = 3;
  const written = () => names.map((name) => short(values[name], digits));
  while (digits < 15 && new Set(written()).size < names.length) digits++;
  if (digits === 15) digits = 3; // equal but for rounding
  return /** @type {Record<K, string>} */ (Object.fromEntries(names.map((name, nth) => [name, written()[nth]])));
}
