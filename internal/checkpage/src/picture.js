// The way that a check takes, drawn as a sequence: this browser, the relay, and the
// second peer, which is this browser, too; an arrow for each step, from top to bottom.
import { ms, titles } from './check.js'

export const signs = { ok: '✓', fail: '✕', running: '…', waiting: '·', skipped: '–' }

const WIDTH = 320
const BROWSER = 44
const RELAY = 160
const SECOND = 276
const TOP = 62
const ROW = 32

// A word for each step, whose arrow leads from where to where, and whether back, too.
const arrows = {
  dial: ['connect', BROWSER, RELAY, false],
  identify: ['identify', RELAY, BROWSER, false],
  reserve: ['reserve', BROWSER, RELAY, false],
  circuit: ['reach', SECOND, BROWSER, false],
  echo: ['send bytes', SECOND, BROWSER, true],
  webtransport: ['WebTransport', BROWSER, RELAY, false],
  'webrtc-direct': ['WebRTC', BROWSER, RELAY, false]
}

export function picture (steps) {
  const bottom = TOP + ROW * steps.length - 16
  const passed = steps.filter(s => s.outcome === 'ok').length
  const failed = steps.find(s => s.outcome === 'fail')
  const label = `The way of the check: ${passed} of ${steps.length} steps passed` + (failed == null ? '' : `, failed at: ${titles[failed.name]}`)
  return svg('svg', { class: 'way', viewBox: `0 0 ${WIDTH} ${bottom}`, role: 'img', 'aria-label': label },
    ...[[BROWSER, 'this browser', ''], [RELAY, 'relay', ''], [SECOND, 'second peer', 'this browser, too']].flatMap(([x, who, note]) => [
      svg('line', { class: 'life', x1: x, x2: x, y1: 34, y2: bottom }),
      text(x, 14, 'middle', who),
      text(x, 28, 'middle', note, 'note')
    ]),
    ...steps.map((s, i) => arrow(s, TOP + ROW * i)))
}

// arrow is solid where the step passed, ends in a cross where it failed, and is dotted
// where it was not made.
function arrow (s, y) {
  const [word, from, to, back] = arrows[s.name]
  const way = Math.sign(to - from)
  const head = (x, dir) => svg('path', { class: 'head', d: `M${x} ${y}l${-8 * dir}-4v8z` })
  const middle = Math.abs(to - from) > RELAY - BROWSER
  const g = svg('g', { 'data-outcome': s.outcome, ...(s.optional ? { 'data-optional': '' } : {}) },
    svg('line', { x1: from, x2: s.outcome === 'fail' ? to - 16 * way : to, y1: y, y2: y }),
    text(middle ? RELAY : BROWSER + 6, y - 7, middle ? 'middle' : 'start', [signs[s.outcome], word, s.duration_ms == null ? '' : ms(s.duration_ms)].join(' ').trim()))
  if (s.outcome === 'fail') {
    g.append(svg('path', { class: 'cross', d: `M${to - 16 * way - 5} ${y - 5}l10 10m0-10l-10 10` }))
  } else {
    g.append(head(to, way), ...(back ? [head(from, -way)] : []))
  }
  return g
}

function text (x, y, anchor, words, name = '') {
  const t = svg('text', { x, y, 'text-anchor': anchor, class: name })
  t.textContent = words
  return t
}

function svg (name, attributes, ...children) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v)
  e.append(...children)
  return e
}
