/** One clip as a sheet of frames, ready to be drawn, and the clock that several of them share. */

/** Frames in rows on one picture. */
export class Reel {
  constructor(picture, layout, caption = "") {
    Object.assign(this, { picture, layout, caption });
  }

  /** Loads a sheet from an address; rejects if it cannot be shown. */
  static async load(address, layout, caption) {
    const picture = new Image();
    picture.src = address;
    await picture.decode();
    return new Reel(picture, layout, caption);
  }

  /** Draws frame `number` into a rectangle; `part` shows only that much of it from the left, 0..1. */
  draw(context, number, [x, y, width, height], part = 1) {
    const { columns, frames, width: w, height: h } = this.layout;
    const index = Math.min(number, frames - 1);
    const source = [(index % columns) * w, Math.floor(index / columns) * h];
    if (part > 0) context.drawImage(this.picture, ...source, w * part, h, x, y, width * part, height);
  }
}

/** Counts frames in time; stands still while nobody can see them. */
export class Clock {
  constructor(element, onFrame) {
    Object.assign(this, { element, onFrame, frames: 1, fps: 8, frame: 0, playing: true });
    this.last = 0;
    this.tick = this.tick.bind(this);
  }

  /** Sets length and rate and starts the clock. */
  set(frames, fps) {
    this.frames = Math.max(1, frames);
    this.fps = Math.min(60, Math.max(0.5, fps));
    this.frame %= this.frames;
    if (!this.request) this.request = requestAnimationFrame(this.tick);
    this.onFrame(this.frame);
  }

  /** Stops at a frame. */
  seek(frame) {
    this.playing = false;
    this.frame = frame;
    this.onFrame(frame);
  }

  /** Ends the clock for good. */
  end() {
    cancelAnimationFrame(this.request);
    this.request = null;
  }

  tick(now) {
    this.request = requestAnimationFrame(this.tick);
    if (!this.playing || this.frames < 2 || now - this.last < 1000 / this.fps) return;
    if (!this.element.isConnected || !this.element.offsetParent) return;
    this.last = now;
    this.frame = (this.frame + 1) % this.frames;
    this.onFrame(this.frame);
  }
}
