// The page: a form, and one card for each relay.
import { parse, split } from './address.js'
import { check, ms, titles } from './check.js'
import { picture, signs } from './picture.js'

export { hold, ping, reach } from './hold.js'
export { classes } from './explain.js'

const AT_ONCE = 3

const $ = id => document.getElementById(id)
const form = $('form')
const input = $('relays')
const button = $('start')
const cards = $('cards')
const live = $('live')
let report

// start checks the relays and resolves with the report. Only one run goes on at a
// time.
export async function start (texts) {
  const relays = parse(texts)
  if (relays.length === 0) {
    live.textContent = 'No address was given.'
    input.setAttribute('aria-invalid', 'true')
    input.focus()
    return
  }
  input.removeAttribute('aria-invalid')
  button.disabled = true
  $('results').hidden = false
  $('copy').hidden = true
  live.textContent = relays.length === 1 ? `Checking ${relays[0].name}.` : `Checking ${relays.length} relays.`
  report = { format: 'relay-check/1', started: new Date().toISOString(), browser: navigator.userAgent, relays: [] }
  cards.replaceChildren(...relays.map(r => r.card = element('article', { class: 'card' })))
  const waiting = relays.map((relay, i) => async () => {
    const show = result => draw(relay.card, result)
    const result = await check(relay, show)
    report.relays[i] = result
    live.textContent = `${result.name}: ${verdict(result)}.`
  })
  const worker = async () => { for (let next; (next = waiting.shift()) != null;) await next() }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  for (const r of report.relays) delete r.done
  button.disabled = false
  $('copy').hidden = false
  return report
}

function draw (card, result) {
  card.dataset.state = !result.done ? 'running' : result.ok ? 'ok' : 'fail'
  card.replaceChildren(
    element('h2', {}, result.name),
    element('p', { class: 'id' }, result.peer_id),
    element('p', { class: 'verdict' }, verdict(result)),
    picture(result.steps),
    element('ol', { class: 'steps', role: 'list' }, ...result.steps.map(row))
  )
}

const words = { ok: 'passed', fail: 'failed', running: 'running', waiting: 'waiting', skipped: 'skipped' }

function row (s) {
  const li = element('li', { 'data-step': s.name, 'data-outcome': s.outcome, ...(s.optional ? { 'data-optional': '' } : {}) },
    element('span', { class: 'sign', 'aria-hidden': 'true' }, signs[s.outcome]),
    element('div', { class: 'what' },
      element('span', { class: 'title' }, titles[s.name]),
      element('span', { class: 'sr' }, `: ${words[s.outcome]}. `),
      ...(s.detail ? [element('span', { class: 'detail' }, s.detail)] : [])),
    element('span', { class: 'time' }, s.duration_ms == null ? '' : ms(s.duration_ms)))
  if (s.advice) {
    li.append(element('div', { class: 'advice' }, element('strong', {}, 'What to do: '), ...linked(s.advice)))
  }
  return li
}

function verdict (result) {
  if (!result.done) return 'Checking…'
  if (!result.ok) return 'Browsers cannot use this relay'
  return result.steps.some(s => s.outcome === 'fail')
    ? 'Browsers can use this relay, though not by every way that it offers'
    : 'Browsers can use this relay'
}

// linked makes the one address in an advice a link that leaves this page in peace.
function linked (text) {
  return text.split(/(https:\/\/\S+)/).map((part, i) => i % 2 === 0
    ? part
    : element('a', { href: part, target: '_blank', rel: 'noopener noreferrer' }, part))
}

// element builds with text nodes only: much of what is shown was chosen by strangers.
function element (name, attributes, ...children) {
  const e = document.createElement(name)
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v)
  e.append(...children)
  return e
}

export function asText (r) {
  const lines = [`Relay check, ${r.started}`]
  for (const relay of r.relays) {
    lines.push('', `${relay.name}: ${verdict({ ...relay, done: true })}`, ...relay.addrs.map(a => `  ${a}`))
    for (const s of relay.steps) {
      const time = s.duration_ms == null ? '' : ms(s.duration_ms)
      lines.push(`  ${words[s.outcome].padEnd(8)} ${s.name.padEnd(13)} ${time.padStart(7)}  ${s.detail ?? ''}`.trimEnd())
      if (s.advice) lines.push(`           to do: ${s.advice}`)
    }
  }
  lines.push('', `Browser: ${r.browser}`)
  return lines.join('\n') + '\n'
}

async function copy (text, what) {
  try {
    await navigator.clipboard.writeText(text)
    live.textContent = `Copied as ${what}.`
  } catch {
    // Without leave to write, or on a page without TLS: select it, the rest is a key.
    const out = $('plain')
    out.hidden = false
    out.value = text
    out.focus()
    out.select()
    live.textContent = 'Press Ctrl+C or ⌘C to copy the selected text.'
  }
}

form.addEventListener('submit', e => {
  e.preventDefault()
  const texts = split(input.value)
  const query = new URLSearchParams(texts.map(t => ['relay', t])).toString().replaceAll('%2F', '/')
  history.replaceState(null, '', texts.length > 0 ? `?${query}` : location.pathname)
  run(texts)
})
input.addEventListener('keydown', e => {
  if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) form.requestSubmit()
})
$('copy-text').addEventListener('click', () => copy(asText(report), 'text'))
$('copy-json').addEventListener('click', () => copy(JSON.stringify(report, null, 2) + '\n', 'JSON'))

// finished is the report of the last run, for whoever drives this page.
export let finished = Promise.resolve()
function run (texts) { finished = start(texts) }

const asked = new URLSearchParams(location.search).getAll('relay').flatMap(split)
if (asked.length > 0) {
  input.value = asked.join('\n')
  run(asked)
}
