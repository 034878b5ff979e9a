/** Reading a prompt schedule, by the rules of the node. */

const LINE = /^\s*(["']?)(\d{1,9})\1\s*:(.*)$/;

/** {keys: [{frame, text}], problem}: the keys in order, or what is wrong as [word, values]. */
export function parseSchedule(text) {
  const found = new Map();
  for (const [index, line] of String(text ?? "").split(/\r\n|\r|\n/).entries()) {
    if (!line.trim()) continue;
    const match = LINE.exec(line);
    if (!match) return { keys: [], problem: ["scheduleLine", { line: index + 1 }] };
    const frame = Number(match[2]);
    if (found.has(frame)) return { keys: [], problem: ["scheduleTwice", { line: index + 1, frame }] };
    found.set(frame, unquoted(match[3]));
  }
  const keys = [...found].map(([frame, words]) => ({ frame, text: words })).sort((a, b) => a.frame - b.frame);
  return { keys, problem: keys.length ? null : ["scheduleEmpty", {}] };
}

function unquoted(text) {
  const words = text.trim().replace(/,+$/, "").trim();
  const quoted = words.length >= 2 && words[0] === words.at(-1) && "\"'".includes(words[0]);
  return quoted ? words.slice(1, -1) : words;
}

/** The stretches of a clip of `frames` frames: {from, to, text, next}; `next` is set where one blends into another. */
export function stretches(keys, frames, blend) {
  const inside = keys.filter((key) => key.frame < frames);
  const list = inside.map((key, i) => ({
    from: i ? key.frame : 0,
    to: inside[i + 1]?.frame ?? frames,
    text: key.text,
    frame: key.frame,
    next: blend ? (keys[keys.indexOf(key) + 1]?.text ?? null) : null,
  }));
  return list.length || !keys.length ? list : [{ from: 0, to: frames, text: keys[0].text, frame: keys[0].frame, next: null }];
}
