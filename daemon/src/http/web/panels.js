// The lists beside the conversation: members, knocks, and why the holder holds the room.

import { byId, clockOf, colour, count, el, fullTime, nameOf, printable, setText, show, span } from './dom.js';
import { pathInWords } from './mesh.js';

/** The members, those online first. */
export function drawMembers(peers, holder, onWrite) {
  const online = (peer) => Number(peer.online);
  const sorted = [...peers].sort((one, two) => Number(two.me) - Number(one.me) || online(two) - online(one) || one.name.localeCompare(two.name));
  const list = byId('members');
  const focused = document.activeElement?.closest?.('#members button')?.dataset.peer;
  list.replaceChildren(...sorted.map((peer) => memberElement(peer, holder, onWrite)));
  if (focused) list.querySelector(`button[data-peer="${CSS.escape(focused)}"]`)?.focus();
}

function memberElement(peer, holder, onWrite) {
  const holds = holder?.id === peer.id;
  const name = colour(el('b', { class: 'name' }, nameOf(peer)), peer);
  const about = peer.me ? 'you' : pathInWords(peer);
  const tags = [];
  if (holds) tags.push('holds the room');
  else if (peer.role === 'standby' && peer.rank) tags.push(`rank ${peer.rank}`);
  if (peer.member === 'admin') tags.push('admin');
  if (!peer.online && peer.last_seen) tags.push(`seen ${span(Math.max(0, Date.now() - new Date(peer.last_seen)))} ago`);
  if (peer.clock_off_ms && Math.abs(peer.clock_off_ms) >= 10_000) {
    tags.push(`clock ${span(Math.abs(peer.clock_off_ms))} ${peer.clock_off_ms > 0 ? 'ahead' : 'behind'}`);
  }
  const element = el('li', { class: peer.online ? 'online' : 'offline' }, el('span', { class: 'dot', 'aria-hidden': 'true' }), name, el('span', { class: 'about' }, [about, ...tags].join(' · ')));
  element.classList.toggle('holds', holds);
  if (!peer.me) {
    const write = el('button', { type: 'button', class: 'write', 'data-peer': peer.id, 'aria-label': `Write to ${nameOf(peer)} alone` }, 'Write');
    write.addEventListener('click', () => onWrite(peer));
    element.append(write);
  }
  return element;
}

/** Newcomers that ask to be admitted. `onAnswer` receives the knock and whether to admit it. */
export function drawKnocks(knocks, onAnswer) {
  const box = byId('knocks');
  const key = knocks.map((knock) => knock.id).join(' ');
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(...knocks.map((knock) => {
    const buttons = [['Admit', true], ['Deny', false]].map(([word, admit]) => {
      const button = el('button', { type: 'button', class: admit ? 'primary' : '', 'aria-label': `${word} ${printable(knock.name)}` }, word);
      button.addEventListener('click', () => onAnswer(knock, admit));
      return button;
    });
    return el(
      'div',
      { class: 'knock', 'data-knock': knock.id },
      el('p', el('b', printable(knock.name)), ` (${knock.tag}) asks to be admitted${knock.removed ? ', and was removed before' : ''}. Both sides see these words: `, el('strong', { class: 'words' }, printable(knock.words))),
      ...buttons,
    );
  }));
}

/** What decided who holds the room. */
export function drawWhy(view) {
  const { holder, ranking, since, term, succession } = view;
  const others = ranking.filter((ranked) => ranked.peer.id !== holder?.id).slice(0, succession);
  const next = others.map((ranked) => nameOf(ranked.peer)).join(', ');
  const held = holder ? `${nameOf(holder)} holds the room${since ? ` since ${clockOf(since)}` : ''}, in term ${term}.` : `No peer is known to hold the room; the last term was ${term}.`;
  setText(byId('why-text'), next ? `${held} When it is gone, the first of these that is alive takes over: ${next}.` : held);
  byId('ranking').replaceChildren(...ranking.map((ranked) => rankElement(ranked)));
  show(byId('ranking'), ranking.length > 0);
}

function rankElement(ranked) {
  const bar = el('span', { class: 'bar-fill' });
  bar.style.width = `${Math.round(100 * ranked.score)}%`;
  const inbound = { true: 'yes', false: 'no' }[String(ranked.inbound)] ?? 'not known';
  const figures = [
    ['reach', `${Math.round(100 * ranked.reach)} %`],
    ['RTT', ranked.rtt_ms === null ? '–' : span(ranked.rtt_ms)],
    ['loss', `${(100 * ranked.loss).toFixed(ranked.loss > 0 ? 1 : 0)} %`],
    ['steady', `${Math.round(100 * ranked.steady)} %`],
    ['inbound', inbound],
    ['reports', String(ranked.reports)],
  ];
  return el(
    'li',
    el('div', { class: 'rank' }, colour(el('b', { class: 'name' }, nameOf(ranked.peer)), ranked.peer), el('span', { class: 'score' }, ranked.score.toFixed(3))),
    el('div', { class: 'score-bar', 'aria-hidden': 'true' }, bar),
    el('dl', { class: 'figures' }, ...figures.map(([name, value]) => el('div', el('dt', name), el('dd', value)))),
    el('p', { class: 'reason' }, printable(ranked.why)),
  );
}

/** The head of the page: the room, who is online, what to be warned of. */
export function drawHead(status, holder) {
  const { room, peer } = status;
  setText(byId('room-name'), printable(room.name) || 'chat');
  const who = holder ? (holder.id === peer.id ? 'you hold the room' : `${nameOf(holder)} holds the room`) : 'the role is vacant';
  const parts = [`${status.members_online} of ${count(status.members, 'member', 'members')} online`, who, `you are ${nameOf(peer)}`];
  if (status.removed) parts.push('you were removed from this room');
  if (status.damaged_entries > 0) parts.push(`${count(status.damaged_entries, 'damaged entry', 'damaged entries')} on this disk`);
  if (status.clock_off_ms && Math.abs(status.clock_off_ms) >= 10_000) parts.push(`this machine’s clock is ${span(Math.abs(status.clock_off_ms))} off`);
  setText(byId('summary'), parts.join(' · '));
  byId('summary').title = `chatd ${status.version}, up since ${fullTime(status.started_at)}`;
}
