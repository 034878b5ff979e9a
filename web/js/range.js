/** The arithmetic of choosing frames: start, step and count over a clip. */

const MOST = 1024;

const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

/** The last chosen frame. */
export const lastFrame = ({ start, step, count }) => start + step * (count - 1);

/** How many frames start, start + step, ... exist among `total`. */
export const largestCount = (total, start, step) => Math.max(0, Math.ceil((total - start) / step));

/** The range moved as a whole so that it starts at `start`, within the clip. */
export function moved(range, start, total) {
  const most = Math.max(0, total - 1 - range.step * (range.count - 1));
  return { ...range, start: clamp(Math.round(start), 0, most) };
}

/** The range with its first frame at about `start`; the last one stays where it is. */
export function withStart(range, start, total) {
  const last = lastFrame(range);
  const count = clamp(Math.round((last - start) / range.step) + 1, 1, MOST);
  const first = last - range.step * (count - 1);
  return first < 0 ? withStart(range, start + range.step, total) : { ...range, start: first, count };
}

/** The range with its last frame at about `last`; the first one stays. */
export function withLast(range, last, total) {
  const most = Math.max(1, largestCount(total, range.start, range.step));
  const count = clamp(Math.round((last - range.start) / range.step) + 1, 1, Math.min(most, MOST));
  return { ...range, count };
}

/** The range with another step, and as many of its frames as the clip has. */
export function withStep(range, step, total) {
  const changed = clamp(Math.round(step), 1, 1000);
  const most = Math.max(1, largestCount(total, range.start, changed));
  return { ...range, step: changed, count: Math.min(range.count, most) };
}
