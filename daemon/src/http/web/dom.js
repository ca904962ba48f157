// Elements and texts of the page. What others wrote enters the document as text, never as markup.

const SVG = 'http://www.w3.org/2000/svg';

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element; `parts` are attributes (an object), texts and elements. */
export function el(name, ...parts) {
  return fill(document.createElement(name), parts);
}

/** A new element of a picture. */
export function svg(name, ...parts) {
  return fill(document.createElementNS(SVG, name), parts);
}

function fill(element, parts) {
  for (const part of parts) {
    if (part === null || part === undefined) continue;
    if (part instanceof Node || typeof part === 'string') element.append(part);
    else for (const [name, value] of Object.entries(part)) element.setAttribute(name, value);
  }
  return element;
}

/** Sets a text only where it changes, so that a screen reader does not repeat it. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows or hides an element. */
export function show(element, visible) {
  element.hidden = !visible;
}

/** Escape sequences, control and reordering characters do not reach the page; they are shown as what they are. */
export function printable(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\uFFFD');
}

/** A name as it is shown. */
export const nameOf = (peer) => printable(peer.name || peer.tag);

/** A hue that is the same for a peer wherever it is shown. */
export function hueOf(peer) {
  let hash = 7;
  for (const letter of peer.id) hash = (hash * 31 + letter.charCodeAt(0)) % 3600;
  return hash % 360;
}

/** Gives an element the colour of a peer. */
export function colour(element, peer) {
  element.style.setProperty('--hue', hueOf(peer));
  return element;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', year: 'numeric', month: 'long', day: 'numeric' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });

/** Hours and minutes. */
export const clockOf = (time) => clock.format(new Date(time));
/** The day in words. */
export const dayOf = (time) => day.format(new Date(time));
/** Date and time. */
export const fullTime = (time) => full.format(new Date(time));

/** A number of milliseconds in short: `0.4 ms`, `71 ms`, `3 s`, `5 m`, `2 h`, `4 d`. */
export function span(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** `1 message`, `2 messages`. */
export const count = (number, one, many) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

/** Why the role moved, in words. */
export function reasonOf(change) {
  const from = change.from ? nameOf(change.from) : 'the holder';
  switch (change.reason) {
    case 'founded': return 'founded the room';
    case 'died': return `${from}’s process died`;
    case 'silent': return `${from} fell silent`;
    case 'handed_over': return `${from} left and handed over`;
    case 'better_connected': return `better connected than ${from}`;
    case 'merged': return 'two halves of the room merged';
    case 'removed': return `${from} was removed or left for good`;
    default: return change.reason;
  }
}
