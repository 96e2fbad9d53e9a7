// How all is: the verdict, what to do, connections, traffic, and what the daemon stands on.

import { get } from '../api.js'
import { line, meter, stackedBars } from '../charts.js'
import { coalesce } from '../coalesce.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { currentLanguage, has, t } from '../i18n.js'
import { icon } from '../icons.js'
import { troubles } from '../troubles.js'
import { badge, byUrgency, empty, facts, loading, problem, quoted, section, state, table, TONES, when, word } from '../ui.js'

/** How the traffic is counted: the length of a bar (s), how many, and how its time is written. */
const STEPS = {
  minute: { seconds: 60, bars: 60, label: at => format.time(at) },
  hour: { seconds: 3600, bars: 48, label: at => format.time(at) },
  day: { seconds: 86400, bars: 30, label: at => format.shortDay(at) },
}
const TRAFFIC_GAP = 10_000 // ms between two looks at the traffic
const FILTER_FROM = 9 // connections
const MOST_ROWS = 150

export class Overview {
  constructor(app) {
    this.app = app
    this.step = 'minute'
    this.traffic = null // { points }
    this.error = null
    this.filter = ''
    this.refreshTraffic = coalesce(() => this.loadTraffic(), TRAFFIC_GAP)
  }

  title() {
    return t('nav.overview')
  }

  load() {
    this.refreshTraffic()
  }

  close() {
    this.refreshTraffic.stop()
  }

  poll() {
    this.refreshTraffic()
  }

  slowly() {
    this.refreshTraffic()
  }

  onEvents() {
    this.refreshTraffic(1000)
  }

  counting() {
    return this.app.health.data?.connections.some(each => each.next_attempt_in !== null) ?? false
  }

  async loadTraffic() {
    const step = this.step
    const { seconds, bars } = STEPS[step]
    const since = new Date(Date.now() - (bars - 1) * seconds * 1000).toISOString()
    const tz = Intl.DateTimeFormat().resolvedOptions().timeZone
    try {
      const rows = await get('/statistics', { step, since, tz })
      if (step !== this.step) return
      const points = rows.map(({ at, processed, skipped, errors }) => ({ at, values: [processed, skipped, errors] }))
      this.traffic = { step, points }
      this.error = null
    } catch (error) {
      this.error = error
    }
    this.app.render()
  }

  choose(step) {
    if (step === this.step) return
    this.step = step
    this.loadTraffic()
    this.app.render()
  }

  render() {
    const { data, error, at } = this.app.health
    if (data === null) return [h('h1', {}, t('nav.overview')), error ? problem(error, () => this.app.refreshHealth()) : loading()]
    return [
      h('h1', { class: 'hidden' }, t('nav.overview')),
      verdict(data, at),
      this.alerts(),
      h('div', { class: 'columns' },
        h('div', { class: 'column wide-column' }, this.connections(data), this.messages()),
        h('div', { class: 'column side-column' },
          conversations(data), this.writer(data), ledger(data), place(data))),
    ]
  }

  alerts() {
    const alerts = this.app.alerts.list()
    if (!alerts.length) return null
    return section('alerts', t('alerts.title'), badge(format.number(alerts.length), 'bad'),
      h('ul', { class: 'troubles' }, alerts.map(each => h('li', { class: each.tone, 'data-key': each.key },
        icon('degraded'), h('div', {},
          h('p', { class: 'what' }, each.title ?? word('incident', each.code), ' ', h('span', { class: 'soft' }, t('time.since', { time: format.moment(each.since) }),
            each.connections ? ` · ${t('alerts.concerns', { count: each.connections })}` : '', each.connection ? ` · ${each.connection}` : '',
            each.state === 'acknowledged' ? ` · ${word('alert', each.state)}` : '')),
          each.detail && h('p', { class: 'detail' }, quoted(each.detail)),
          each.cure && h('p', { class: 'cure' }, h('strong', {}, t('verdict.do')), ' ', each.cure))))),
      h('p', {}, h('a', { href: '#/alerts' }, t('action.show'))))
  }

  connections(data) {
    const counts = Object.entries(data.states).sort(([one], [other]) => byUrgency(one, other))
    const wanted = this.filter.toLowerCase()
    const all = [...data.connections].sort((one, other) => byUrgency(one.state, other.state) || one.name.localeCompare(other.name))
    const fitting = all.filter(each => `${each.name} ${each.state} ${word('state', each.state)}`.toLowerCase().includes(wanted))
    return section('connections', t('connections.title'),
      h('ul', { class: 'states', 'aria-label': t('connections.byState') }, counts.map(([name, many]) =>
        h('li', { class: `badge ${TONES[name] ?? 'idle'}`, 'data-key': name }, `${word('state', name)} ${format.number(many)}`))),
      all.length >= FILTER_FROM && h('input', { type: 'search', class: 'filter', placeholder: t('connections.filter'), 'aria-label': t('connections.filter'),
        value: this.filter, oninput: event => { this.filter = event.target.value; this.app.render() } }),
      all.length === 0 ? empty(t('connections.none')) : fitting.length === 0 ? empty(t('connections.noneFit'))
        : table(t('connections.title'), [
          { name: t('connection.name') }, { name: t('connection.state'), place: 'headline' }, { name: t('connection.since') },
          { name: t('connection.why'), place: 'long' }, { name: t('connection.retries'), number: true },
          { name: t('connection.heartbeat'), short: t('connection.heartbeat.short') }, { name: t('connection.message'), short: t('connection.message.short') },
        ], fitting.slice(0, MOST_ROWS).map(each => ({ key: each.name, cells: row(each, this.app.health.at) }))),
      fitting.length > MOST_ROWS && h('p', { class: 'soft' }, t('connections.more', { count: fitting.length - MOST_ROWS })))
  }

  messages() {
    const choices = h('div', { class: 'choices', role: 'group', 'aria-label': t('traffic.step') }, Object.keys(STEPS).map(step =>
      h('button', { type: 'button', 'data-key': step, 'aria-pressed': String(step === this.step), onclick: () => this.choose(step) }, t(`traffic.${step}`))))
    const shown = this.traffic
    return section('traffic', t('traffic.title'), choices,
      this.error && problem(this.error, () => this.loadTraffic()),
      shown === null ? (this.error ? null : loading()) : stackedBars({
        id: 'traffic-chart',
        title: t(`traffic.title.${shown.step}`),
        points: shown.points,
        label: STEPS[shown.step].label,
        series: [{ name: t('traffic.processed'), tone: 'good' }, { name: t('traffic.skipped'), tone: 'idle' }, { name: t('traffic.errors'), tone: 'bad' }],
        width: this.app.width('.wide-column > .panel', 320),
      }))
  }

  writer(data) {
    const { writer, loop } = data
    if (!writer) return null
    const { samples } = this.app
    return section('writer', t('writer.title'), null,
      samples.length > 1 && line({ id: 'writer-lag', title: t('writer.commit'), width: this.app.width('.side-column > .panel', 300), show: format.duration,
        points: samples.map(each => ({ at: each.at, value: each.commit })) }),
      facts([
        [t('writer.commit'), format.duration(writer.last_commit_seconds)],
        [t('writer.waiting'), `${format.number(writer.depth)} / ${format.number(writer.capacity)}`],
        [t('writer.batches'), format.number(writer.batches)],
        [t('writer.loop'), loop ? format.duration(loop.lag_p99_seconds) : null],
      ]))
  }
}

function verdict(data, at) {
  const list = troubles(data)
  const tone = { ok: 'good', degraded: 'warn', failing: 'bad' }[data.verdict] ?? 'idle'
  const reasons = data.reasons ?? []
  return h('section', { class: `panel verdict ${tone}`, 'data-verdict': data.verdict, 'aria-labelledby': 'verdict-title' },
    h('div', { class: 'verdict-head' }, icon(data.verdict), h('div', {},
      h('h2', { id: 'verdict-title' }, t(`verdict.${data.verdict}`)),
      h('p', { class: 'soft' }, t('verdict.of', { version: data.version, time: format.duration((at - new Date(data.started_at)) / 1000), at: format.time(at, true) })))),
    list.length > 0 && h('ul', { class: 'troubles' }, list.map(each => h('li', { class: each.tone, 'data-key': each.key },
      icon(each.tone === 'bad' ? 'failing' : 'degraded'), h('div', {},
        h('p', { class: 'what' }, each.link ? h('a', { href: each.link }, each.what) : each.what),
        each.detail && h('p', { class: 'detail' }, quoted(each.detail)),
        each.cure && h('p', { class: 'cure' }, h('strong', {}, t('verdict.do')), ' ', each.cure))))),
    reasons.length > 0 && h('details', { class: 'reasons', open: list.length === 0 },
      h('summary', {}, t('verdict.reasons')), h('ul', {}, reasons.map(reason => h('li', {}, quoted(reason))))))
}

/** Why a connection is as it is: the daemon's sentence, or a short one in another language. */
export const why = each => currentLanguage() !== 'en' && has(`reason.${each.reason}`)
  ? h('span', { title: each.sentence }, t(`reason.${each.reason}`)) : quoted(each.sentence)

/** "next try in 8 s", counted down since the facts were fetched (`at`, ms); null: none is due. */
export function nextTry(each, at) {
  if (each.next_attempt_in === null || each.next_attempt_in === undefined) return null
  const left = each.next_attempt_in - (Date.now() - at) / 1000
  return left > 0.5 ? t('connection.nextTry', { time: format.duration(Math.ceil(left)) }) : t('connection.tryNow')
}

function row(each, at) {
  const next = nextTry(each, at)
  return [
    h('a', { href: `#/connections/${encodeURIComponent(each.name)}` }, each.name),
    [state(each.state), each.deaf_suspicion && h('span', { class: 'badge warn', title: each.deaf_suspicion.why }, icon('ear'), t('connection.deaf'))],
    when(each.since),
    [why(each), next && h('span', { class: 'soft' }, ` · ${next}`),
      !each.paired && each.state !== 'pairing' && [' · ', h('a', { href: `#/connections/${encodeURIComponent(each.name)}` }, t('connection.pair'))]],
    format.number(each.retries),
    when(each.last_heartbeat_at, format.ago(each.last_heartbeat_at)),
    when(each.last_message_at, format.ago(each.last_message_at)),
  ]
}

function conversations({ conversations: counts, sync }) {
  const hour = sync?.hour
  return section('conversations', t('nav.conversations'), h('a', { href: '#/conversations' }, t('action.show')),
    counts === null ? away() : h('ul', { class: 'figures' }, ['waiting', 'open', 'closed'].map(status => h('li', {},
      h('a', { href: `#/conversations?status=${status}` }, h('span', { class: 'figure' }, format.number(counts[status] ?? 0)),
        h('span', {}, t(`status.${status}.many`)))))),
    hour && facts([
      [t('sync.hour'), format.number(hour.total)], [t('traffic.processed'), format.number(hour.processed)],
      [t('traffic.skipped'), format.number(hour.skipped)], [t('traffic.errors'), format.number(hour.errors)]]))
}

function ledger(data) {
  return section('ledger', t('ledger.title'), null,
    data.gaps === null ? away() : facts([
      [h('a', { href: '#/gaps' }, t('ledger.gaps')), figure(data.gaps.open, 'warn')],
      [t('ledger.missing'), figure(data.gaps.missing, 'warn')],
      [h('a', { href: '#/quarantine' }, t('ledger.quarantine')), figure(data.quarantine, 'warn')],
      ...Object.entries(data.outbox ?? {}).filter(([name, many]) => many || name === 'queued').map(([name, many]) =>
        [`${t('ledger.outbox')}: ${word('outbox', name)}`, figure(many, ['failed', 'unknown'].includes(name) ? 'bad' : 'idle')]),
    ]))
}

const figure = (many, tone) => many ? badge(format.number(many), tone) : format.number(many ?? 0)

function place({ database, disk, media_disk: media }) {
  return section('place', t('place.title'), null, facts([
    [t('place.database'), database?.error ? badge(t('place.away'), 'bad')
      : database && t('place.answers', { time: format.duration(database.ping_seconds) })],
    [t('place.size'), database?.size_bytes ? format.bytes(database.size_bytes) : null],
    [t('place.disk'), disk && room(disk)],
    [t('place.mediaDisk'), media && media.path !== disk?.path && media.total_bytes !== disk?.total_bytes ? room(media) : null],
  ]))
}

const room = disk => [t('place.free', { free: format.bytes(disk.free_bytes), total: format.bytes(disk.total_bytes) }),
  meter(disk.total_bytes - disk.free_bytes, disk.total_bytes, t('place.used', { share: format.percent(100 - (100 * disk.free_bytes) / disk.total_bytes) }),
    disk.free_bytes < disk.total_bytes * 0.1 ? 'bad' : 'busy')]

const away = () => empty(t('place.unknown'))
