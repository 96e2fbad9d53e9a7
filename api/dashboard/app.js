// The page as a whole: who is signed in, what is shown, and when it is brought up to date.

import { call, get, SIGNED_OUT } from './api.js'
import { AlertBook, tellOfAlerts } from './alerts.js'
import { coalesce } from './coalesce.js'
import { patch } from './dom.js'
import { preferredLanguage, t, useLanguage } from './i18n.js'
import { Live } from './live.js'
import { shell } from './shell.js'
import { announce, word } from './ui.js'
import { Alerts } from './views/alerts.js'
import { ConnectionPage } from './views/connection.js'
import { Conversations } from './views/conversations.js'
import { Gaps } from './views/gaps.js'
import { Login } from './views/login.js'
import { Overview } from './views/overview.js'
import { Quarantine } from './views/quarantine.js'

const ROUTES = [
  [/^\/?$/, Overview],
  [/^\/connections\/([^/]+)$/, ConnectionPage],
  [/^\/conversations(?:\/(\d+))?$/, Conversations],
  [/^\/gaps$/, Gaps],
  [/^\/alerts$/, Alerts],
  [/^\/quarantine$/, Quarantine],
]
const LOOK_EVERY = 10 // seconds between two looks at what no event tells of
const HEALTH_GAP = 1_000 // ms
const AFTER_MESSAGES = 3_000 // ms that health may be behind the messages
const ANNOUNCE_GAP = 5_000 // ms
const SAMPLES = 180 // of the writer, kept for its graph

class App {
  constructor() {
    this.session = null // { name, scopes }; null: nobody is signed in
    this.health = { data: null, error: null, at: null, since: null }
    this.samples = [] // [{ at, commit, depth }]
    this.alerts = new AlertBook()
    this.live = { connected: false, since: Date.now(), nextTry: null }
    this.wasLive = false
    this.outdated = false // the daemon is of another version than this page
    this.startError = null // why it is not known who is signed in
    this.view = null
    this.path = null
    this.frame = null
    this.seconds = 0
    this.changed = new Map() // connection: state, not announced yet
    this.feed = new Live((events, missed) => this.onEvents(events, missed), status => this.onLive(status))
    this.refreshHealth = coalesce(() => this.loadHealth(), HEALTH_GAP)
    this.refreshAlerts = coalesce(() => this.loadAlerts(), HEALTH_GAP)
    this.refreshView = coalesce(() => this.view?.poll?.(), HEALTH_GAP)
    this.tellChanges = coalesce(() => this.announceChanges(), ANNOUNCE_GAP)
  }

  async start() {
    await useLanguage(preferredLanguage())
    window.addEventListener('hashchange', () => this.route())
    window.addEventListener('resize', () => this.render())
    window.addEventListener(SIGNED_OUT, () => this.session && this.enter(null))
    document.getElementById('skip').onclick = event => {
      event.preventDefault()
      document.getElementById('main').focus()
    }
    setInterval(() => this.tick(), 1000)
    let session = null
    try {
      session = await get('/session')
    } catch (error) {
      if (error.status !== 401) this.startError = error
    }
    this.enter(session)
  }

  /** Somebody is signed in, or, null, nobody is. */
  enter(session) {
    this.session = session
    this.wasLive = false
    this.feed.stop()
    if (session !== null) {
      this.feed.start()
      this.refreshHealth()
      this.refreshAlerts()
    } else {
      this.health = { data: null, error: null, at: null, since: null }
      this.samples = []
      this.alerts.clear()
    }
    this.path = null
    this.route()
  }

  async signOut() {
    try {
      await call('DELETE', '/session')
    } catch (error) {
      if (error.status !== 401) return announce(error.message)
    }
    this.enter(null)
  }

  // ---- what is shown

  route() {
    const hash = location.hash.startsWith('#/') ? location.hash.slice(1) : '/'
    const [path, query] = hash.split('?')
    const parameters = new URLSearchParams(query)
    const first = this.path === null
    if (this.session === null) {
      this.open(new Login(this), '/login', first)
      return
    }
    for (const [pattern, View] of ROUTES) {
      const match = pattern.exec(path)
      if (match === null) continue
      const args = match.slice(1).map(each => each && decodeURIComponent(each))
      if (this.view instanceof View && this.view.go?.(args, parameters)) {
        this.path = hash
        return this.render()
      }
      return this.open(new View(this, args, parameters), hash, first)
    }
    location.replace('#/')
  }

  open(view, path, first) {
    this.view?.close?.()
    this.view = view
    this.path = path
    patch(document.getElementById('main'), [])
    this.paint()
    view.load?.()
    if (!first) {
      window.scrollTo(0, 0)
      const heading = document.querySelector('#main h1')
      heading?.setAttribute('tabindex', '-1')
      heading?.focus()
    }
  }

  /** Show the present state of things with the next frame. */
  render() {
    this.frame ??= setTimeout(() => this.paint(), 16)
  }

  paint() {
    clearTimeout(this.frame)
    this.frame = null
    const verdict = this.health.data?.verdict
    const mark = this.session && verdict && verdict !== 'ok' ? '(!) ' : ''
    document.title = `${mark}${this.view.title()} · zapvisor`
    document.getElementById('skip').textContent = t('app.skip')
    patch(document.getElementById('shell'), shell(this))
    patch(document.getElementById('main'), this.view.render())
    this.view.painted?.()
  }

  /** How wide a chart may be that fills `selector`, or what stands in for it before it is there. */
  width(selector, otherwise) {
    const place = document.querySelector(selector)
    if (place === null) {
      this.render()
      return otherwise
    }
    const style = getComputedStyle(place)
    return Math.max(200, Math.floor(place.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)))
  }

  // ---- what may be done

  can(scope) {
    return this.session?.scopes.includes(scope) ?? false
  }

  /** Why something cannot be done with the rights of this session; null: it can. */
  whyNot(scope) {
    return this.can(scope) ? null : t('session.needs', { scope })
  }

  // ---- what changes

  tick() {
    this.seconds += 1
    if (this.session === null) return
    if (this.seconds % LOOK_EVERY === 0) {
      this.refreshHealth()
      this.refreshAlerts()
      if (!this.live.connected) this.refreshView()
      this.view.slowly?.()
      this.render()
    } else if (!this.live.connected || this.view.counting?.()) {
      this.render()
    }
  }

  async loadHealth() {
    if (this.session === null) return
    try {
      const data = await get('/health/detailed')
      const now = Date.now()
      this.noteChanges(this.health.data, data)
      this.outdated ||= this.health.data !== null && this.health.data.version !== data.version
      this.health = { data, error: null, at: now, since: null }
      this.samples.push({ at: now, commit: data.writer?.last_commit_seconds ?? 0, depth: data.writer?.depth ?? 0 })
      this.samples.splice(0, this.samples.length - SAMPLES)
      this.alerts.fromHealth(data)
    } catch (error) {
      this.health = { ...this.health, error, since: this.health.since ?? Date.now() }
    }
    this.view.onHealth?.()
    this.render()
  }

  async loadAlerts() {
    if (this.session === null) return
    await this.alerts.load()
    this.render()
  }

  onEvents(events, missed) {
    if (this.session === null) return
    const states = missed || events.some(event => !event.type.startsWith('message.'))
    this.refreshHealth(states ? 0 : AFTER_MESSAGES)
    if (missed || tellOfAlerts(events)) this.refreshAlerts(0)
    this.view.onEvents?.(events, missed)
  }

  onLive(status) {
    const before = this.live
    this.live = status
    if (before.connected !== status.connected && this.session) {
      if (!status.connected) announce(t('live.lost'))
      else if (this.wasLive) announce(t('live.regained'))
      if (status.connected) this.refreshView()
      this.wasLive = true
    }
    if (this.view) this.render()
  }

  /** Keep which connections changed their state, to be told in one sentence. */
  noteChanges(before, after) {
    if (before === null) return
    const known = new Map(before.connections.map(each => [each.name, each.state]))
    for (const { name, state } of after.connections) {
      if (known.get(name) !== state) this.changed.set(name, state)
    }
    if (this.changed.size) this.tellChanges()
  }

  announceChanges() {
    const changes = [...this.changed]
    this.changed.clear()
    if (changes.length > 3) announce(t('live.changes', { count: changes.length }))
    else announce(changes.map(([name, state]) => `${name}: ${word('state', state)}`).join('; '))
  }
}

await new App().start()
