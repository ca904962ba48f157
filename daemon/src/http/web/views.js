// What is around the room: the search, the keys, the theme, and one view at a time on a narrow screen.

import { byId, setText } from './dom.js';

const THEME = 'chatd-theme';
const THEMES = ['auto', 'dark', 'light'];

/** Wires the parts of the page that are not the room itself. */
export function wireViews(conversation) {
  wireSearch(conversation);
  const buttons = document.querySelectorAll('.views button');
  for (const button of buttons) {
    button.addEventListener('click', () => {
      document.body.dataset.view = button.dataset.view;
      for (const other of buttons) other.setAttribute('aria-pressed', String(other === button));
    });
  }
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest('input, textarea, dialog');
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === '/') {
      event.preventDefault();
      byId('words').focus();
    } else if (event.key === '?') {
      byId('help').showModal();
    }
  });
}

function wireSearch(conversation) {
  const words = byId('words');
  const leave = () => {
    words.value = '';
    conversation.toNewest().catch(() => {});
  };
  byId('search').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = words.value.trim();
    if (text === '') return leave();
    document.body.dataset.view = 'room';
    conversation.search(text).then(() => conversation.selectLast(), (error) => {
      setText(byId('refusal'), error.message);
    });
  });
  words.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    leave();
    byId('text').focus();
  });
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  setText(byId('theme'), { auto: 'Theme', dark: 'Dark', light: 'Light' }[theme]);
  byId('theme').setAttribute('aria-label', `Colours: ${theme === 'auto' ? 'as the system has them' : theme}`);
}

let theme = localStorage.getItem(THEME) ?? 'auto';
setTheme(THEMES.includes(theme) ? theme : 'auto');
byId('theme').addEventListener('click', () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  localStorage.setItem(THEME, theme);
  setTheme(theme);
});
byId('help-button').addEventListener('click', () => byId('help').showModal());
