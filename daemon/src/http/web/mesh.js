// The picture of the mesh: this peer in the middle, the other members around it, a line for each path.

import { byId, colour, nameOf, setText, show, span, svg } from './dom.js';

const CENTRE = { x: 210, y: 132 };
const RADIUS = { x: 156, y: 94 };

/** Where the mark of the holder is, from the middle of its node. */
const MARK = { x: 12, y: -10 };

/** Maximum number of members in the picture; the list has all of them. */
const NODES_MAX = 24;

/** Time that a message takes along a line, in milliseconds. */
const PULSE_MS = 700;

const still = matchMedia('(prefers-reduced-motion: reduce)');

export class Mesh {
  #nodes = new Map();
  #lines = new Map();
  #places = new Map();
  #holder = null;

  /** Draws the members; `links` are connections between others, where this peer knows of them. */
  draw(peers, holder, links) {
    const me = peers.find((peer) => peer.me);
    if (!me) return;
    const others = peers.filter((peer) => !peer.me);
    const ranked = [...others].sort((one, two) => Number(two.online) - Number(one.online));
    const kept = new Set(ranked.slice(0, NODES_MAX).map((peer) => peer.id));
    const around = others.filter((peer) => kept.has(peer.id)).sort((one, two) => one.id.localeCompare(two.id));
    this.#places = new Map([[me.id, CENTRE]]);
    around.forEach((peer, at) => this.#places.set(peer.id, place(at, around.length)));
    this.#drawLines(me, around, links);
    this.#drawNodes([me, ...around]);
    this.#moveHolder(holder);
    for (const key of document.querySelectorAll('.key.others')) show(key, links.length > 0);
    setText(byId('mesh-text'), inWords(me, others, holder));
  }

  /** Shows a message travel from its author: to this peer, or from this peer to the others. */
  travel(message, me) {
    if (still.matches || document.hidden || !me) return;
    if (message.from.id !== me.id) {
      this.#pulse(message.from.id, me.id);
      return;
    }
    const to = new Set((message.to ?? []).map((peer) => peer.id));
    for (const id of this.#places.keys()) {
      const line = this.#lines.get(key(me.id, id));
      if (line && !line.classList.contains('none') && (to.size === 0 || to.has(id))) this.#pulse(me.id, id);
    }
  }

  #pulse(from, to) {
    const [start, end] = [this.#places.get(from), this.#places.get(to)];
    if (!start || !end || byId('mesh-pulses').childElementCount > 40) return;
    const dot = svg('circle', { r: 3.5, class: 'pulse' });
    byId('mesh-pulses').append(dot);
    const at = (point) => `translate(${point.x}px, ${point.y}px)`;
    dot.animate([{ transform: at(start) }, { transform: at(end) }], { duration: PULSE_MS, easing: 'ease-in-out' }).onfinish = () => dot.remove();
  }

  #drawLines(me, around, links) {
    const wanted = new Map();
    const online = new Set(around.filter((peer) => peer.online).map((peer) => peer.id));
    for (const link of links) {
      const { from, to } = link;
      const [one, two] = [this.#places.get(from), this.#places.get(to)];
      if (one && two && online.has(from) && online.has(to)) {
        wanted.set(key(from, to), { from: one, to: two, kind: link.direct ? 'others' : 'others relayed', text: '' });
      }
    }
    for (const peer of around) {
      const text = peer.rtt_ms === null || peer.rtt_ms === undefined ? '' : span(peer.rtt_ms);
      const to = this.#places.get(peer.id);
      wanted.set(key(me.id, peer.id), { from: CENTRE, to, kind: peer.path, text: peer.path === 'relayed' && text ? `relay ${text}` : text });
    }
    for (const [id, line] of this.#lines) {
      if (wanted.has(id)) continue;
      line.remove();
      this.#lines.delete(id);
    }
    for (const [id, want] of wanted) this.#drawLine(id, want);
  }

  #drawLine(id, { from, to, kind, text }) {
    let group = this.#lines.get(id);
    if (!group) {
      group = svg('g', svg('line'), svg('text', { 'text-anchor': 'middle' }));
      this.#lines.set(id, group);
      byId('mesh-lines').append(group);
    }
    group.setAttribute('class', `path ${kind}`);
    const [line, label] = group.children;
    for (const [name, value] of [['x1', from.x], ['y1', from.y], ['x2', to.x], ['y2', to.y]]) line.setAttribute(name, value);
    label.setAttribute('x', from.x + (to.x - from.x) * 0.56);
    label.setAttribute('y', from.y + (to.y - from.y) * 0.56 + 4);
    setText(label, text);
  }

  #drawNodes(peers) {
    for (const [id, node] of this.#nodes) {
      if (this.#places.has(id)) continue;
      node.remove();
      this.#nodes.delete(id);
    }
    for (const peer of peers) {
      let node = this.#nodes.get(peer.id);
      if (!node) {
        node = svg('g', svg('circle', { r: peer.me ? 14 : 12 }), svg('text', { 'text-anchor': 'middle' }));
        colour(node, peer);
        this.#nodes.set(peer.id, node);
        byId('mesh-nodes').append(node);
      }
      const at = this.#places.get(peer.id);
      node.setAttribute('class', `node ${peer.online ? 'online' : 'offline'}${peer.me ? ' me' : ''}`);
      node.style.transform = `translate(${at.x}px, ${at.y}px)`;
      const label = node.lastElementChild;
      label.setAttribute('y', at.y < CENTRE.y - 10 ? -20 : 28);
      setText(label, shortName(peer));
    }
  }

  /** The mark of the holder moves to where the role went. */
  #moveHolder(holder) {
    const mark = byId('mesh-holder');
    const at = holder && this.#places.get(holder.id);
    mark.classList.toggle('vacant', !at);
    if (!at) return;
    // The first time it is there at once; later it travels.
    mark.classList.toggle('placed', this.#holder !== null);
    mark.style.transform = `translate(${at.x + MARK.x}px, ${at.y + MARK.y}px)`;
    if (this.#holder && this.#holder !== holder.id && !still.matches) {
      this.#nodes.get(holder.id)?.animate(
        [{ opacity: 1 }, { opacity: 0.35 }, { opacity: 1 }],
        { duration: 500, iterations: 2 },
      );
    }
    for (const [id, node] of this.#nodes) node.classList.toggle('holder', id === holder.id);
    this.#holder = holder.id;
  }
}

/** Where the n-th of several members is. */
function place(at, all) {
  const angle = -Math.PI / 2 + (2 * Math.PI * (at + (all === 2 ? 0.75 : 0.5))) / all;
  return { x: Math.round(CENTRE.x + RADIUS.x * Math.cos(angle)), y: Math.round(CENTRE.y + RADIUS.y * Math.sin(angle)) };
}

/** The name of a line, the same from both ends. */
const key = (one, two) => (one < two ? `${one} ${two}` : `${two} ${one}`);

function shortName(peer) {
  const name = peer.me ? `${nameOf(peer)} (you)` : nameOf(peer);
  return name.length > 16 ? `${name.slice(0, 15)}…` : name;
}

/** The picture for those who do not see it. */
function inWords(me, others, holder) {
  const who = holder ? (holder.id === me.id ? 'You hold the room.' : `${nameOf(holder)} holds the room.`) : 'The role is vacant.';
  const paths = others.map((peer) => `${nameOf(peer)}: ${pathInWords(peer)}.`);
  return [who, ...paths].join(' ');
}

/** How a member is connected, in words. */
export function pathInWords(peer) {
  if (!peer.online) return 'offline';
  if (peer.path === 'none') return 'through other members';
  const time = peer.rtt_ms === null || peer.rtt_ms === undefined ? '' : `, ${span(peer.rtt_ms)}`;
  return `${peer.path}${time}`;
}
