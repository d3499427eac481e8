/** Closed forms for full batches: the heavy ball on a quadratic, as in gradlab.analysis.theory. */

/** @typedef {import("./problem.js").Surface} Surface */

/**
 * Return the largest stable lr·λ of a keep from 0 to 1 (Polyak 1964).
 * @param {number} keep
 */
export function edge(keep) {
  return 2 * (1 + keep);
}

/**
 * Return 1 above the edge, 0 at it, −1 below. Rounding of lr·λ makes no difference.
 * @param {number} a lr·λ
 * @param {number} keep
 */
export function sideOfEdge(a, keep) {
  const above = a - edge(keep);
  return Math.abs(above) <= 1e-12 * edge(keep) ? 0 : Math.sign(above);
}

/**
 * The roots of z² − (1 + keep − a)·z + keep with a = lr·λ: two real ones, the larger in modulus first, or a pair
 * first·exp(±i·angle). ratioGap: 1 − second/first of real roots. weight: 1 − second; of a pair, its real counterpart.
 * @typedef {{first: number, angle: number, ratioGap: number, weight: number}} Roots
 */

/**
 * @param {number} a lr·λ
 * @param {number} keep at least 0
 * @returns {Roots}
 */
export function rootsOf(a, keep) {
  const total = 1 - a + keep;
  const root = Math.sqrt(keep);
  const low = root > 0.5 ? (1 - root) ** 2 - a : total - 2 * root;
  const high = total + 2 * root;
  const gap = Math.sqrt(Math.abs(low)) * Math.sqrt(Math.abs(high));
  if (low < 0 && 0 < high) {
    const signed = total < 0 ? -root : root;
    return { first: signed, angle: Math.atan2(gap, Math.abs(total)), ratioGap: 0, weight: (1 - keep - a) / (2 * signed) };
  }
  const first = total / 2 + (total > 0 ? gap / 2 : -gap / 2);
  const second = first ? keep / first : 0;
  const weight = Math.abs(1 - first) > Math.abs(1 - second) ? a / (1 - first) : 1 - second;
  return { first, angle: 0, ratioGap: first ? gap / Math.abs(first) : 0, weight };
}

/**
 * Return the error after n updates, as a multiple of that at the start.
 * @param {Roots} roots
 * @param {number} n
 */
export function errorAfter({ first, angle, ratioGap, weight }, n) {
  let factor;
  if (angle) {
    factor = Math.cos(n * angle) + (weight * Math.sin(n * angle)) / Math.sin(angle);
  } else if (ratioGap === 0) {
    factor = 1 + weight * n;
  } else {
    const left = (1 - ratioGap) ** n;
    const done = ratioGap < 0.5 ? -Math.expm1(n * Math.log1p(-ratioGap)) : 1 - left;
    factor = left + (weight * done) / ratioGap;
  }
  return factor * first ** n;
}

/**
 * Write the loss of each step on full batches.
 * @param {Surface} surface
 * @param {number[]} errors at the start, along the axes of the surface
 * @param {{lr: number, keep: number, every: number}} training
 * @param {number} steps
 * @param {Float64Array} losses overwritten and returned
 */
export function closedForm({ curvatures, floor }, errors, { lr, keep, every }, steps, losses) {
  const roots = curvatures.map((curvature) => rootsOf(lr * curvature, keep));
  for (let t = 0; t < steps; t++) {
    if (t % every) {
      losses[t] = losses[t - 1];
      continue;
    }
    let loss = floor;
    for (let axis = 0; axis < 2; axis++) {
      const error = errors[axis] && errors[axis] * errorAfter(roots[axis], t / every); // 0, even times infinity
      loss += 0.5 * curvatures[axis] * error * error;
    }
    losses[t] = loss;
  }
  return losses;
}
