// Beams: the tree of hypotheses, what was kept, finished and pruned.

const BOX = { width: 92, height: 30, gapX: 26, gapY: 12, top: 24 };

function placeOf(node) {
  return { x: node.step * (BOX.width + BOX.gapX), y: BOX.top + node.lane * (BOX.height + BOX.gapY) };
}

function ancestry(nodes, index) {
  const path = new Set();
  for (let at = index; at >= 0; at = nodes[at].parent) path.add(at);
  return path;
}

function edge(from, to, kind) {
  const a = placeOf(from), b = placeOf(to);
  const x = a.x + BOX.width, y = a.y + BOX.height / 2, v = b.y + BOX.height / 2;
  const half = (x + b.x) / 2;
  return draw('path', { class: kind, d: `M${x} ${y}C${half} ${y} ${half} ${v} ${b.x} ${v}` });
}

function box(node, kind) {
  const { x, y } = placeOf(node);
  const words = wordOf(node.token).replace(/ /g, '␣') || '∅';
  const short = [...words].length > 9 ? [...words].slice(0, 8).join('') + '…' : words;
  const group = draw('g', { class: kind, transform: `translate(${x} ${y})` },
    draw('rect', { width: BOX.width, height: BOX.height, rx: 4 }),
    draw('text', { x: 6, y: 13, class: 'word' }, short),
    draw('text', { x: 6, y: 25, class: 'sum' }, node.sum.toFixed(2)));
  group.append(draw('title', {}, `${words}: ${node.fate}, sum ${node.sum.toFixed(4)}, own ${node.logprob.toFixed(4)}`));
  return group;
}

function drawTree(nodes, path) {
  const lanes = 1 + Math.max(...nodes.map(node => node.lane));
  const steps = 1 + Math.max(...nodes.map(node => node.step));
  const width = steps * (BOX.width + BOX.gapX), height = BOX.top + lanes * (BOX.height + BOX.gapY);
  const svg = draw('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img',
    'aria-label': `${nodes.length} tokens in ${steps} steps` });
  for (let step = 0; step < steps; step++) {
    svg.append(draw('text', { x: step * (BOX.width + BOX.gapX), y: 14, class: 'sum' }, `step ${step + 1}`));
  }
  const kindOf = (node, i) => `${node.fate}${path.has(i) ? ' path' : ''}`;
  nodes.forEach((node, i) => { if (node.parent >= 0) svg.append(edge(nodes[node.parent], node, kindOf(node, i))); });
  nodes.forEach((node, i) => svg.append(box(node, kindOf(node, i))));
  document.getElementById('tree').replaceChildren(svg);
}

function showBeams() {
  const beams = DATA.beams;
  if (!beams) return;
  document.getElementById('beams').hidden = false;
  const choose = (i) => {
    drawTree(beams.nodes, ancestry(beams.nodes, beams.hypotheses[i].node));
    document.querySelectorAll('[data-hypothesis]').forEach((button, j) =>
      button.setAttribute('aria-pressed', String(i === j)));
  };
  const rows = beams.hypotheses.map((one, i) => make('tr', {},
    make('td', {}, make('button', { type: 'button', 'data-hypothesis': i, 'aria-label': `follow hypothesis ${i + 1}`,
      onclick: () => choose(i) }, i + 1)),
    make('td', {}, one.score.toFixed(4)),
    make('td', {}, one.status),
    make('td', { class: 'sentence' }, make('bdi', {}, one.tokens.map(wordOf).join('')))));
  document.getElementById('hypotheses').replaceChildren(
    make('p', { class: 'key' },
      ...[['kept', 'in a hypothesis that was kept'], ['finished', 'its last token'], ['pruned', 'given up for better ones']]
        .flatMap(([kind, text]) => [make('i', { class: `swatch ${kind}` }), ` ${text}  `])),
    make('div', { class: 'scroll' }, make('table', {},
      make('thead', {}, make('tr', {}, ...['', 'score', 'end', 'text'].map(name => make('th', { scope: 'col' }, name)))),
      make('tbody', {}, ...rows))));
  choose(0);
}
