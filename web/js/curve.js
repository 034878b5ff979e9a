/** The numbers behind the loss curve. */

const SMOOTH_PART = 10;
const FIRST_REACH = 20;

/** Trailing mean over a tenth of the run, as in the picture that other clients get. */
export function smooth(values, steps) {
  const window = Math.max(1, Math.floor(steps / SMOOTH_PART));
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= window ? values[i - window] : 0);
    return sum / Math.min(i + 1, window);
  });
}

/** At most about two [index, value] per column: the least and the largest of each, so that no peak is lost. */
export function thin(values, columns) {
  if (values.length <= 2 * columns) return values.map((value, i) => [i, value]);
  const points = [];
  for (let column = 0; column < columns; column++) {
    const first = Math.floor((column * values.length) / columns);
    const last = Math.floor(((column + 1) * values.length) / columns);
    let low = first;
    let high = first;
    for (let i = first + 1; i < last; i++) {
      if (values[i] < values[low]) low = i;
      if (values[i] > values[high]) high = i;
    }
    for (const i of low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) points.push([i, values[i]]);
  }
  return points;
}

/** The last step on the axis while a run of `planned` steps has made some; near at first, so that the curve is seen. */
export function reach(planned, made) {
  let last = Math.max(planned, made, 2);
  while (last > FIRST_REACH && last > made * 4) last = Math.ceil(last / 2);
  return last;
}

/** A function from a value to 0 (bottom) .. 1 (top), and the values at both ends. */
export function scale(values, log) {
  const positive = values.filter((value) => value > 0);
  const shape = log && positive.length ? Math.log10 : (value) => value;
  const known = shape === Math.log10 ? positive : values;
  let low = Infinity;
  let high = -Infinity;
  for (const value of known) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const span = shape(high) - shape(low) || 1;
  return { low, high, at: (value) => (shape(Math.max(value, low)) - shape(low)) / span };
}

/** An SVG path through points. */
export const path = (points) =>
  points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** Seconds as 45 s, 3:20 or 1:02:03. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
}

/** A loss with three digits that count. */
export const short = (value) =>
  value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
