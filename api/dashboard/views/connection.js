// One connection: how it is, what can be done with it, what it did, what it missed.

import { get, post, segment } from '../api.js'
import { uptime } from '../charts.js'
import { coalesce } from '../coalesce.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { currentLanguage, has, t } from '../i18n.js'
import { icon } from '../icons.js'
import { announce, badge, button, confirm, empty, facts, loading, problem, quoted, section, state, table, when } from '../ui.js'
import { gapRow, GAP_COLUMNS } from './gaps.js'
import { nextTry } from './overview.js'
import { pair } from './pairing.js'

const DAYS = 14
const MOST_PAGES = 10 // of transitions, of one look
const SHOWN = 30 // transitions, before more are asked for
const RUNNING = new Set(['pairing', 'connecting', 'syncing', 'online', 'backoff', 'parked', 'conflict'])

export class ConnectionPage {
  constructor(app, [name]) {
    this.app = app
    this.name = name
    this.days = null
    this.transitions = null // newest first
    this.gaps = null
    this.errors = {} // by what could not be loaded
    this.shown = SHOWN
    this.busy = null // the order that is under way
    this.pairing = null
    this.refresh = coalesce(() => this.loadAll(), 2000)
  }

  title() {
    return this.name
  }

  load() {
    this.refresh()
  }

  poll() {
    this.refresh()
  }

  close() {
    this.refresh.stop()
    this.pairing?.close()
  }

  onEvents(events, missed) {
    const mine = event => event.connection === this.name && /^(connection|gap)\./.test(event.type)
    if (missed || events.some(mine)) this.refresh()
  }

  counting() {
    return (this.facts()?.next_attempt_in ?? null) !== null
  }

  facts() {
    return this.app.health.data?.connections.find(each => each.name === this.name)
  }

  async loadAll() {
    const path = `/connections/${segment(this.name)}`
    const attempt = async (what, load) => {
      try {
        await load()
        delete this.errors[what]
      } catch (error) {
        this.errors[what] = error
      }
    }
    await Promise.all([
      attempt('timeline', () => this.loadTimeline(path)),
      attempt('gaps', async () => { this.gaps = await get(`${path}/gaps`, { limit: 20 }) }),
    ])
    this.app.render()
  }

  async loadTimeline(path) {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone
    const found = []
    let after = null
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const answer = await get(`${path}/timeline`, { days: DAYS, zone, after })
      if (page === 0) [this.days, this.percent] = [answer.days, answer.percent]
      found.push(...answer.transitions)
      after = answer.next
      if (after === null) break
    }
    this.transitions = found.reverse()
  }

  render() {
    const { data, error, at } = this.app.health
    const head = h('p', { class: 'trail' }, h('a', { href: '#/' }, icon('back'), t('nav.overview')))
    if (data === null) return [head, h('h1', {}, this.name), error ? problem(error) : loading()]
    const mine = this.facts()
    if (mine === undefined) return [head, h('h1', {}, this.name), h('p', { class: 'notice bad', role: 'alert' }, t('connection.unknown', { name: this.name }))]
    return [head,
      h('div', { class: 'title' }, h('h1', {}, this.name), state(mine.state), mine.jid && h('span', { class: 'soft' }, mine.jid)),
      this.now(mine, at),
      h('div', { class: 'columns' },
        h('div', { class: 'column wide-column' }, this.uptime(), this.missed()),
        h('div', { class: 'column side-column' }, this.history()))]
  }

  now(mine, at) {
    const next = nextTry(mine, at)
    const translated = currentLanguage() !== 'en' && has(`reason.${mine.reason}`)
    return section('now', t('connection.now'), null,
      translated && h('p', { class: 'why' }, h('strong', {}, t(`reason.${mine.reason}`))),
      h('p', { class: translated ? 'soft' : 'why' }, quoted(mine.sentence)),
      next && h('p', { class: 'soft' }, next),
      mine.deaf_suspicion && h('p', { class: 'notice warn' }, icon('ear'), t('trouble.deaf', { name: mine.name, time: format.moment(mine.deaf_suspicion.since) }), ' ', quoted(mine.deaf_suspicion.why)),
      facts([
        [t('connection.since'), when(mine.since)],
        [t('connection.until'), mine.until && when(mine.until)],
        [t('connection.retries'), format.number(mine.retries)],
        [t('connection.heartbeat'), when(mine.last_heartbeat_at, format.ago(mine.last_heartbeat_at))],
        [t('connection.message'), when(mine.last_message_at, format.ago(mine.last_message_at))],
        [t('connection.messages'), format.number(mine.messages)],
        [t('connection.duplicates'), format.number(mine.duplicates)],
        [t('connection.undecryptable'), format.number(mine.undecryptable)],
        [t('connection.quarantined'), format.number(mine.quarantined)],
        [t('connection.inFlight'), format.number(mine.in_flight)],
        [t('connection.history'), mine.history ? t('connection.historyPart', { share: format.percent(mine.history.percent), messages: format.number(mine.history.messages) }) : null],
      ]),
      this.orders(mine))
  }

  orders(mine) {
    const denied = this.app.whyNot('operate')
    const busy = this.busy ? t('action.underWay') : null
    const order = (name, reason, act, tone) =>
      button(t(`action.${name}`), act, { reason: denied ?? busy ?? reason, tone, 'data-key': name, 'data-order': name })
    const running = RUNNING.has(mine.state)
    return h('div', { class: 'buttons', role: 'group', 'aria-label': t('connection.orders') },
      order('start', mine.state === 'online' || mine.state === 'syncing' || mine.state === 'connecting' ? t('why.running') : mine.paired ? null : t('why.notPaired'), () => this.order('start')),
      order('stop', running ? null : t('why.stopped'), () => this.stop()),
      order('restart', running ? null : t('why.stopped'), () => this.order('restart')),
      order('pair', null, () => this.pair(mine), mine.paired ? '' : 'primary'),
      order('logout', mine.state === 'online' ? null : t('why.notOnline'), () => this.logout(), 'danger'),
      denied && h('p', { class: 'soft' }, denied))
  }

  async order(name) {
    this.busy = name
    this.app.render()
    try {
      await post(`/connections/${segment(this.name)}/${name}`)
      announce(t(`done.${name}`, { name: this.name }))
      delete this.errors.order
    } catch (error) {
      this.errors.order = error
      announce(error.message)
    }
    this.busy = null
    this.app.refreshHealth()
    this.refresh()
    this.app.render()
  }

  async stop() {
    if (await confirm(t('ask.stop', { name: this.name }), t('ask.stop.more'), t('action.stop'))) await this.order('stop')
  }

  async logout() {
    if (await confirm(t('ask.logout', { name: this.name }), t('ask.logout.more'), t('action.logout'))) await this.order('logout')
  }

  async pair(mine) {
    const force = mine.paired && mine.state !== 'logged_out'
    if (force && !await confirm(t('ask.pair', { name: this.name }), t('ask.pair.more'), t('action.pair'))) return
    this.pairing = pair(this.name, { force, onDone: () => this.app.refreshHealth() })
    await this.pairing.done
    this.pairing = null
    this.app.refreshHealth()
    this.refresh()
  }

  uptime() {
    const all = this.percent ?? null
    return section('uptime', t('uptime.title'), all !== null && badge(format.percent(all), all > 99 ? 'good' : all > 95 ? 'warn' : 'bad'),
      this.errors.order && problem(this.errors.order),
      this.errors.timeline && problem(this.errors.timeline, () => this.refresh()),
      this.days === null ? (this.errors.timeline ? null : loading())
        : uptime({ id: 'uptime-chart', title: t('uptime.of', { count: this.days.length, share: format.percent(all) }), days: this.days, width: this.app.width('.wide-column > .panel', 320) }))
  }

  missed() {
    return section('gaps', t('nav.gaps'), h('a', { href: `#/gaps?connection=${encodeURIComponent(this.name)}` }, t('action.show')),
      this.errors.gaps && problem(this.errors.gaps, () => this.refresh()),
      this.gaps === null ? (this.errors.gaps ? null : loading())
        : this.gaps.length === 0 ? empty(t('gaps.none'))
          : table(t('nav.gaps'), GAP_COLUMNS().slice(1), this.gaps.map(each => ({ key: each.id, cells: gapRow(each).slice(1) }))))
  }

  history() {
    const rows = this.transitions
    return section('timeline', t('timeline.title'), null,
      rows === null ? (this.errors.timeline ? null : loading())
        : rows.length === 0 ? empty(t('timeline.none')) : h('ol', { class: 'timeline' }, rows.slice(0, this.shown).map(each => h('li', { 'data-key': each.id },
          h('div', {}, state(each.state), ' ', when(each.at, format.moment(each.at, true))),
          h('p', { class: 'soft' }, currentLanguage() !== 'en' && has(`reason.${each.reason}`) ? h('span', { title: each.sentence }, t(`reason.${each.reason}`)) : quoted(each.sentence),
            each.retry ? ` · ${t('timeline.retry', { number: format.number(each.retry) })}` : '')))),
      rows !== null && rows.length > this.shown && button(t('action.more'), () => { this.shown += SHOWN; this.app.render() }))
  }
}
