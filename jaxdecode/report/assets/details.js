// What every link did at one step, as the library computed it.

const LINK_COUNT = DATA.links.length;
const FOLLOWED = DATA.followed;

// Words, so that a narrow column can break between them.
function spaced(name) {
  return name.replace(/([a-z])([A-Z])/g, '$1 $2');
}

function ofLink(name, t, link) {
  return STEPS[name][t * (LINK_COUNT + 1) + link];
}

function removedBy(t, link) {
  const at = t * LINK_COUNT + link;
  return { count: STEPS.removed_count[at], mass: STEPS.removed_mass[at] };
}

function chanceOf(t, link = 0) {
  return Math.exp(ofLink('logprob', t, link));
}

// The tokens that are followed at a step, each once, the likeliest at the end first.
function followed(t) {
  const found = new Map();
  for (let i = 0; i < FOLLOWED; i++) {
    const id = STEPS.ids[t * FOLLOWED + i];
    if (found.has(id)) continue;
    const probs = [];
    for (let link = 0; link <= LINK_COUNT; link++) {
      probs.push(Math.exp(STEPS.logprobs[(t * (LINK_COUNT + 1) + link) * FOLLOWED + i]));
    }
    found.set(id, { id, probs, noise: STEPS.noise[t * FOLLOWED + i] });
  }
  const last = row => row.probs[LINK_COUNT];
  return [...found.values()].sort((a, b) => last(b) - last(a) || b.probs[0] - a.probs[0]);
}

function fact(name, ...value) {
  return make('div', {}, make('dt', {}, name), make('dd', {}, ...value));
}

function facts(t) {
  const last = LINK_COUNT;
  const both = (before, after) => `${before} → ${after}`;
  const nats = x => x.toFixed(3);
  return make('dl', { class: 'facts' },
    fact('Drawn', token(DATA.tokens[t])),
    fact('Log-prob', both(nats(ofLink('logprob', t, 0)), nats(ofLink('logprob', t, last)))),
    fact('Rank', both(count(ofLink('rank', t, 0)), count(ofLink('rank', t, last)))),
    fact('Entropy', both(nats(ofLink('entropy', t, 0)), nats(ofLink('entropy', t, last))), ' nats'));
}

function linkTable(t) {
  const body = DATA.links.map((link, i) => {
    const gone = removedBy(t, i);
    return make('tr', {},
      make('th', { scope: 'row', title: link.text }, link.name),
      make('td', {}, gone.count ? count(gone.count) : '–'),
      make('td', {}, gone.count ? percent(gone.mass) : '–'),
      make('td', {}, ofLink('entropy', t, i + 1).toFixed(3)),
      make('td', {}, percent(chanceOf(t, i + 1))),
      make('td', {}, count(ofLink('rank', t, i + 1))));
  });
  return make('table', { class: 'links' },
    make('caption', {}, 'What each link removed, and the drawn token after it'),
    make('thead', {}, make('tr', {}, ...['link', 'tokens removed', 'their mass', 'entropy', 'probability', 'rank']
      .map(name => make('th', { scope: 'col' }, name)))),
    make('tbody', {}, ...body));
}

function cell(p, before) {
  const gone = p === 0 && before > 0;
  const td = make('td', { class: gone ? 'gone' : 'bar', title: gone ? 'removed here' : null },
    p === 0 ? (gone ? '✕' : '') : percent(p));
  td.style.setProperty('--share', p);
  return td;
}

function tokenTable(t) {
  const names = ['token', 'model', ...DATA.links.map(link => spaced(link.name)), 'noise', 'sum'];
  const body = followed(t).map(row => {
    const last = row.probs[LINK_COUNT];
    const sum = last > 0 ? (Math.log(last) + row.noise).toFixed(2) : '';
    return make('tr', { class: row.id === DATA.tokens[t] ? 'drawn' : null },
      make('th', { scope: 'row' }, token(row.id)),
      ...row.probs.map((p, i) => cell(p, i ? row.probs[i - 1] : 0)),
      make('td', {}, row.noise.toFixed(2)),
      make('td', {}, sum));
  });
  return make('table', { class: 'tokens' },
    make('caption', {}, 'The best tokens through the chain; the largest sum of log-prob and noise is drawn'),
    make('thead', {}, make('tr', {}, ...names.map(name => make('th', { scope: 'col' }, name)))),
    make('tbody', {}, ...body));
}

function scroller(table) {
  return make('div', { class: 'scroll', tabindex: '0', role: 'region',
    'aria-label': table.querySelector('caption').textContent }, table);
}

function showDetails(t) {
  const title = document.getElementById('step-title');
  title.replaceChildren(`Step ${t + 1} of ${DATA.tokens.length}: `, token(DATA.tokens[t]));
  const off = DATA.off.length ? [make('p', { class: 'hint' }, `Off: ${DATA.off.join(', ')}.`)] : [];
  document.getElementById('details').replaceChildren(
    facts(t), scroller(linkTable(t)), scroller(tokenTable(t)), ...off);
}

// The glance at a token under the pointer: before and after, and what was lost.
function glance(t) {
  const best = (link) => followed(t).filter(row => row.probs[link] > 0)
    .sort((a, b) => b.probs[link] - a.probs[link]).slice(0, 5)
    .map(row => make('tr', { class: row.id === DATA.tokens[t] ? 'drawn' : null },
      make('td', {}, token(row.id)), make('td', {}, percent(row.probs[link]))));
  const side = (name, link) => make('table', {}, make('caption', {}, name), make('tbody', {}, ...best(link)));
  const lost = DATA.links.map((link, i) => [link.name, removedBy(t, i)])
    .filter(([, gone]) => gone.count)
    .map(([name, gone]) => make('li', {}, `${name}: ${count(gone.count)} tokens, ${percent(gone.mass)}`));
  return [facts(t), make('div', { class: 'sides' }, side('Before', 0), side('After', LINK_COUNT)),
    make('ul', { 'aria-label': 'Removed' }, ...lost)];
}
