/** Verdicts: what a loss curve did, by the rules of gradlab.analysis.curves. */

/** @typedef {"falls" | "rises" | "oscillates" | "diverges" | "flat"} Verdict */

const HUGE = 1e100;
const DIVERGES = 1000;
const DIVERGES_BY_CHANCE = 1e5;
const FEW = 20;

/**
 * Return the verdict on losses.
 * @param {Float64Array} losses
 * @param {number} epoch steps in an epoch
 * @returns {Verdict}
 */
export function verdictOf(losses, epoch) {
  for (const loss of losses) if (!(Math.abs(loss) < HUGE)) return "diverges";
  const { levels, noise, chance } = levelsOf(losses, epoch);
  const low = least(levels), high = most(levels); // prettier-ignore
  const half = levels.length >> 1;
  const fifth = Math.max(1, Math.floor(levels.length / 5));
  const earlier = half ? levels.slice(0, half) : levels;
  const later = levels.slice(half);
  const begin = most(levels.slice(0, (levels.length >> 2) + 1).map(Math.abs));
  const { growth, byChance } = laterOverFirst(losses);
  const limit = noise && byChance ? DIVERGES_BY_CHANCE : DIVERGES;
  if (begin && (most(later) > DIVERGES * begin || growth > limit)) return "diverges";
  if (high - low <= 1e-5 * Math.max(Math.abs(low), Math.abs(high))) return "flat";
  const clear = Math.max(6, 2 + 2 * Math.sqrt(2 * Math.log(levels.length)));
  const turns = turnsOf(levels, Math.max(0.25 * (high - low), clear * noise));
  if (turns.length >= 2 && turns[turns.length - 1] >= half) {
    return most(later) - least(later) > 2 * (most(earlier) - least(earlier)) ? "rises" : "oscillates";
  }
  if (noise && growth > 3 && !byChance) return "rises";
  const start = levels[0];
  const end = noise ? mean(levels.slice(-fifth)) : levels[levels.length - 1];
  const unmoved = Math.abs(end - mean(levels.slice(0, fifth))) <= chance * noise * Math.sqrt(2 / fifth);
  if (noise && unmoved && Math.abs(end - start) <= chance * noise * Math.sqrt(1 + 1 / fifth) && !isOrdered(levels)) {
    return Math.sqrt(variance(levels)) > 0.2 * Math.abs(mean(levels)) ? "oscillates" : "flat";
  }
  return end < start && end - low <= (high - low) / 2 ? "falls" : "rises";
}

/**
 * @param {Float64Array} losses
 * @param {number} epoch
 */
function levelsOf(losses, epoch) {
  if (epoch === 1 && losses.length > 1) return { levels: losses, noise: 0, chance: 0 };
  let cuts = cutsOf(losses.length, epoch);
  if (1 < cuts.length - 1 && cuts.length - 1 < 4) return { levels: meansOf(losses, cuts), noise: 0, chance: 0 };
  if (cuts.length - 1 < 4) {
    const size = Math.max(1, Math.floor(losses.length / Math.max(8, Math.floor(Math.sqrt(losses.length)))));
    cuts = [];
    for (let at = 0; at + size <= losses.length; at += size) cuts.push(at);
    cuts.push(losses.length);
  }
  const levels = meansOf(losses, cuts);
  const spreads = Float64Array.from(levels, (_, i) => variance(losses.slice(cuts[i], cuts[i + 1])) / (cuts[i + 1] - cuts[i]));
  const within = Math.sqrt(mean(spreads));
  const jitter = jitterOf(levels);
  if (cuts[1] > 1 && within <= jitter) return { levels, noise: within, chance: 3 };
  return { levels, noise: jitter, chance: 3 + 15 / Math.max(1, levels.length - 2) ** 2 };
}

/**
 * Return where epochs begin, and the end; a last one shorter than half the others belongs to the one before.
 * @param {number} length
 * @param {number} epoch
 */
function cutsOf(length, epoch) {
  const cuts = [];
  for (let at = 0; at < length; at += epoch) cuts.push(at);
  if (cuts.length > 1 && 2 * (length - cuts[cuts.length - 1]) < epoch) cuts.pop();
  return [...cuts, length];
}

/**
 * @param {Float64Array} losses
 * @param {number[]} cuts
 */
function meansOf(losses, cuts) {
  return Float64Array.from({ length: cuts.length - 1 }, (_, i) => mean(losses.slice(cuts[i], cuts[i + 1])));
}

/** @param {Float64Array} values */
function jitterOf(values) {
  const bends = [];
  for (let i = 2; i < values.length; i++) bends.push(Math.abs(values[i - 2] - 2 * values[i - 1] + values[i]));
  bends.sort((one, other) => one - other);
  return bends.length ? bends[(bends.length - 1) >> 1] / (0.6745 * Math.sqrt(6)) : 0;
}

/** @param {Float64Array} losses */
function laterOverFirst(losses) {
  const start = Math.abs(losses[0]);
  const later = losses.slice(losses.length >> 1).filter((loss) => loss !== 0).sort(); // prettier-ignore
  if (!start || !later.length) return { growth: 0, byChance: true };
  const low = later[Math.floor(later.length / 50)];
  const middle = (later[(later.length - 1) >> 1] + later[later.length >> 1]) / 2;
  return { growth: low / start, byChance: later.length < FEW || low < 0.1 * middle };
}

/**
 * Return whether a short sequence has a trend, at the 5 % level (Mann 1945, Kendall 1948).
 * @param {Float64Array} values
 */
function isOrdered(values) {
  const n = values.length;
  if (n >= FEW) return false;
  let sum = 0;
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) sum += Math.sign(values[j] - values[i]);
  return Math.abs(sum) >= 1.95 * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18);
}

/**
 * Return the turning points between moves in opposite directions, each larger than `smallest`.
 * @param {Float64Array} values
 * @param {number} smallest
 */
function turnsOf(values, smallest) {
  const turns = [];
  let low = 0, high = 0, direction = 0, lowest = values[0], highest = values[0]; // prettier-ignore
  for (let nth = 0; nth < values.length; nth++) {
    const value = values[nth];
    if (value < lowest) [low, lowest] = [nth, value];
    if (value > highest) [high, highest] = [nth, value];
    if (direction >= 0 && highest - value > smallest) {
      if (direction) turns.push(high);
      direction = -1;
    } else if (direction <= 0 && value - lowest > smallest) {
      if (direction) turns.push(low);
      direction = 1;
    } else {
      continue;
    }
    low = high = nth;
    lowest = highest = value;
  }
  return turns;
}

/** @param {Float64Array} values */
function variance(values) {
  const center = mean(values);
  let sum = 0;
  for (const value of values) sum += (value - center) * (value - center);
  return sum / Math.max(1, values.length - 1);
}

/** @param {Float64Array} values */
function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

/** @param {Float64Array} values */
function least(values) {
  return values.reduce((one, other) => Math.min(one, other), Infinity);
}

/** @param {Float64Array} values */
function most(values) {
  return values.reduce((one, other) => Math.max(one, other), -Infinity);
}
