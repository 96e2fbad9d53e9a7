// Conversations: the list with its filters, and beside it the one that is read.

import { page } from '../api.js'
import { coalesce } from '../coalesce.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { t } from '../i18n.js'
import { icon } from '../icons.js'
import { badge, button, called, connectionChoice, empty, loading, problem, when, word } from '../ui.js'
import { Pages } from './pages.js'
import { Thread } from './thread.js'

const TYPING = 350 // ms after the last letter of a search
const FILTERS = ['status', 'connection', 'query']
export const STATUS_TONES = { waiting: 'warn', open: 'good', closed: 'idle' }

export class Conversations {
  constructor(app, [id], parameters) {
    this.app = app
    this.filter = {}
    this.thread = null
    this.typing = null
    this.pages = new Pages((limit, cursor) => page('/conversations', { ...this.filter, limit, cursor }))
    this.refresh = coalesce(async () => { await this.pages.refresh(); this.app.render() }, 2000)
    this.take([id], parameters)
  }

  title() {
    return this.thread?.title() ?? t('nav.conversations')
  }

  load() {
    this.refresh()
    this.thread?.load()
  }

  poll() {
    this.refresh()
    this.thread?.refresh()
  }

  close() {
    clearTimeout(this.typing)
    this.refresh.stop()
    this.thread?.close()
  }

  /** Another conversation or filter, without leaving. */
  go(args, parameters) {
    const before = JSON.stringify(this.filter)
    const opened = this.take(args, parameters)
    if (JSON.stringify(this.filter) !== before) this.search()
    if (opened) this.thread.load()
    return true
  }

  take([id], parameters) {
    this.filter = Object.fromEntries(FILTERS.map(name => [name, parameters.get(name) ?? '']))
    const wanted = id === undefined ? null : Number(id)
    if (wanted === (this.thread?.id ?? null)) return false
    this.thread?.close()
    this.thread = wanted === null ? null : new Thread(this.app, wanted, () => this.refresh())
    return this.thread !== null
  }

  onEvents(events, missed) {
    if (missed || events.some(event => /^(message|conversation)\./.test(event.type))) this.refresh()
    this.thread?.onEvents(events, missed)
  }

  painted() {
    this.thread?.painted()
  }

  place(id = this.thread?.id ?? null, filter = this.filter) {
    const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value)).toString()
    return `#/conversations${id === null ? '' : `/${id}`}${query ? `?${query}` : ''}`
  }

  choose(changes) {
    history.replaceState(null, '', this.place(this.thread?.id ?? null, { ...this.filter, ...changes }))
    this.app.route()
  }

  search() {
    this.pages.reset().then(() => this.app.render())
  }

  type(query) {
    clearTimeout(this.typing)
    this.typing = setTimeout(() => this.choose({ query }), TYPING)
  }

  render() {
    return [h('h1', { class: 'hidden' }, this.title()), h('div', { class: `inbox${this.thread ? ' reading' : ''}` },
      h('section', { class: 'list panel', 'aria-labelledby': 'list-title' },
        h('h2', { id: 'list-title' }, t('nav.conversations')), this.filters(), this.list()),
      this.thread ? this.thread.render(this.place(null)) : h('section', { class: 'panel nothing' }, empty(t('conversations.choose'))))]
  }

  filters() {
    return h('search', { class: 'filters' },
      h('label', { class: 'grow' }, h('span', {}, t('filter.text')), h('input', { type: 'search', value: this.filter.query, maxlength: 256,
        oninput: event => this.type(event.target.value) })),
      h('label', {}, h('span', {}, t('filter.status')), h('select', { value: this.filter.status, onchange: event => this.choose({ status: event.target.value }) },
        h('option', { value: '', selected: !this.filter.status }, t('filter.all')),
        ['waiting', 'open', 'closed'].map(status => h('option', { value: status, selected: status === this.filter.status }, t(`status.${status}.many`))))),
      connectionChoice(this.app, this.filter.connection, connection => this.choose({ connection })))
  }

  list() {
    const { rows, next, error } = this.pages
    if (error && rows === null) return problem(error, () => this.refresh())
    if (rows === null) return loading()
    if (rows.length === 0) return empty(t(Object.values(this.filter).some(Boolean) ? 'conversations.noneFit' : 'conversations.none'))
    return [error && problem(error, () => this.refresh()),
      h('ul', { class: 'conversations' }, rows.map(row => h('li', { 'data-key': row.id },
        h('a', { href: this.place(row.id), 'aria-current': row.id === this.thread?.id ? 'true' : null },
          h('span', { class: 'name', dir: 'auto' }, called(row)),
          when(row.last_message_at, format.sameDay(row.last_message_at, Date.now()) ? format.time(row.last_message_at) : format.shortDay(row.last_message_at)),
          h('span', { class: 'about' }, row.connection, ' · ', t('conversations.messages', { count: row.messages })),
          h('span', { class: 'marks' }, row.possible_hole && badge([icon('hole'), t('conversations.hole')], 'warn'),
            badge(word('status', row.status), STATUS_TONES[row.status])))))),
      next !== null && button(t('action.more'), async () => { await this.pages.more(); this.app.render() })]
  }
}
