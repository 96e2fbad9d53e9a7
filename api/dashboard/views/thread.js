// One conversation with its messages, the newest at the bottom; older ones on demand.

import { get, post } from '../api.js'
import { coalesce } from '../coalesce.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { t } from '../i18n.js'
import { icon } from '../icons.js'
import { announce, badge, button, called, loading, problem, word } from '../ui.js'
import { STATUS_TONES } from './conversations.js'
import { messageItem } from './message.js'

const PAGE = 50
const LARGEST = 200 // messages in one answer
const MOST_SINGLE = 20 // changed messages that are fetched one by one; above that, all that is shown
const NEAR = 80 // pixels from the end that count as being there

export class Thread {
  constructor(app, id, onChange) {
    this.app = app
    this.id = id
    this.onChange = onChange
    this.row = null
    this.messages = null // oldest first
    this.error = null
    this.complete = false // nothing older is left
    this.busy = false
    this.changed = new Set() // ids of shown messages to fetch anew
    this.missed = false // something changed, and nobody knows what
    this.stick = true // the end is to be in view
    this.fresh = false // something came while the reader was elsewhere
    this.watched = null // the list that is looked after
    this.height = null // of the content before older messages came
    this.refresh = coalesce(() => this.loadNewest(), 700)
  }

  title() {
    return this.row === null ? t('nav.conversations') : called(this.row)
  }

  load() {
    this.refresh()
  }

  close() {
    this.refresh.stop()
  }

  onEvents(events, missed) {
    let touched = missed
    this.missed ||= missed
    for (const { type, data } of events) {
      if (!/^(message|conversation)\./.test(type) || data.conversation_id !== this.id) continue
      touched = true
      for (const id of [data.message_id, data.target_id]) if (Number.isInteger(id)) this.changed.add(id)
    }
    if (touched) this.refresh()
  }

  async loadNewest() {
    const [changed, anew] = [this.changed, this.missed]
    const limit = anew ? Math.min(LARGEST, Math.max(PAGE, this.messages?.length ?? 0)) : PAGE
    this.changed = new Set()
    this.missed = false
    try {
      const [row, newest] = await Promise.all([get(`/conversations/${this.id}`), this.fetch(limit)])
      if (this.messages !== null && newest[newest.length - 1]?.id !== this.messages[this.messages.length - 1]?.id) this.fresh = !this.stick
      this.row = row
      if (anew || this.messages === null || this.apart(newest)) {
        this.messages = []
        this.complete = newest.length < limit
      }
      this.merge(newest)
      await this.fetchChanged(changed, new Set(newest.map(each => each.id)))
      this.error = null
    } catch (error) {
      for (const id of changed) this.changed.add(id)
      this.missed ||= anew
      this.error = error
    }
    this.app.render()
  }

  fetch(limit, before) {
    return get(`/conversations/${this.id}/messages`, { limit, before })
  }

  /** Whether there may be messages between those that are shown and the newest ones. */
  apart(newest) {
    const known = new Set(this.messages.map(each => each.id))
    return newest.length === PAGE && !newest.some(each => known.has(each.id))
  }

  /** Older messages that were edited, deleted or answered. */
  async fetchChanged(changed, known) {
    const shown = new Set(this.messages.map(each => each.id))
    const stale = [...changed].filter(id => shown.has(id) && !known.has(id))
    if (stale.length > MOST_SINGLE) {
      this.messages = this.messages.filter(each => known.has(each.id))
      this.complete = false
      return
    }
    this.merge(await Promise.all(stale.map(id => get(`/messages/${id}`))))
  }

  merge(messages) {
    const all = new Map((this.messages ?? []).map(each => [each.id, each]))
    for (const each of messages) all.set(each.id, each)
    this.messages = [...all.values()].sort(byTime)
  }

  async earlier() {
    if (this.busy) return
    this.busy = true
    this.app.render()
    try {
      const first = this.messages[0].id
      const older = await this.fetch(PAGE, first)
      if (this.messages[0].id === first) { // otherwise what they belong above is not shown any more
        this.complete = older.length < PAGE
        this.height = this.scroller()?.scrollHeight ?? null
        this.merge(older)
        announce(t('thread.loaded', { count: older.length }))
      }
      this.error = null
    } catch (error) {
      this.error = error
    }
    this.busy = false
    this.app.render()
  }

  scroller() {
    return document.querySelector('.thread .messages')
  }

  /** Keep in view what was: the end, or what was read before older messages came above it. */
  painted() {
    const place = this.scroller()
    if (place === null || this.messages === null) return
    if (this.height !== null) {
      place.scrollTop += place.scrollHeight - this.height
      this.height = null
    } else if (this.stick) {
      place.scrollTop = place.scrollHeight
    }
    this.watch(place)
  }

  /** Know where the reader is, and stay at the end when pictures make the list longer. */
  watch(place) {
    if (this.watched === place) return
    this.watched = place
    place.addEventListener('load', () => { if (this.stick) place.scrollTop = place.scrollHeight }, true)
    place.onscroll = () => {
      this.stick = place.scrollHeight - place.scrollTop - place.clientHeight < NEAR
      if (this.stick && this.fresh) {
        this.fresh = false
        this.app.render()
      }
    }
  }

  async order(name) {
    try {
      this.row = await post(`/conversations/${this.id}/${name}`)
      this.error = null
      announce(t(`done.${name}`, { name: this.title() }))
    } catch (error) {
      this.error = error
    }
    this.onChange()
    this.app.render()
  }

  render(back) {
    const { row } = this
    return h('section', { class: 'thread panel', 'data-key': `thread-${this.id}`, 'aria-labelledby': 'thread-title' },
      h('header', { class: 'thread-head' },
        h('a', { href: back, class: 'back', 'aria-label': t('thread.back') }, icon('back')),
        h('div', { class: 'grow' }, h('h2', { id: 'thread-title', dir: 'auto' }, this.title()),
          row && h('p', { class: 'soft' }, h('a', { href: `#/connections/${encodeURIComponent(row.connection)}` }, row.connection),
            ' · ', t('thread.since', { time: format.moment(row.opened_at) }), row.reopened ? ` · ${t('thread.reopened', { count: row.reopened })}` : '')),
        row && badge(word('status', row.status), STATUS_TONES[row.status]), row && this.orders(row)),
      row?.possible_hole && h('p', { class: 'notice warn' }, icon('hole'), t('thread.hole'), ' ',
        h('a', { href: `#/gaps?connection=${encodeURIComponent(row.connection)}` }, t('nav.gaps'))),
      this.error && problem(this.error, () => this.refresh()),
      this.messages === null ? (this.error ? null : loading()) : this.list(),
      this.fresh && h('button', { type: 'button', class: 'fresh primary', onclick: () => { this.stick = true; this.fresh = false; this.app.render() } }, t('thread.fresh')))
  }

  orders(row) {
    const reason = this.app.whyNot('operate')
    const order = name => button(t(`thread.${name}`), () => this.order(name), { reason, 'data-order': name, 'data-key': name })
    return h('div', { class: 'buttons', role: 'group', 'aria-label': t('thread.orders') },
      row.status === 'waiting' && order('open'), row.status === 'closed' ? order('reopen') : order('close'))
  }

  list() {
    const items = []
    let day = null
    for (const message of this.messages) {
      if (day === null || !format.sameDay(day, message.sent_at)) {
        day = message.sent_at
        items.push(h('li', { class: 'day', 'data-key': `day-${new Date(day).toDateString()}` }, h('h3', {}, format.day(day))))
      }
      items.push(messageItem(message, this.app))
    }
    return h('div', { class: 'messages', tabindex: '0', role: 'region', 'aria-label': t('thread.messages') },
      !this.complete && button(t('thread.earlier'), () => this.earlier(), { reason: this.busy ? t('action.underWay') : null, 'data-key': 'earlier', 'data-order': 'earlier' }),
      h('ol', {}, items))
  }
}

const byTime = (one, other) => one.sent_at.localeCompare(other.sent_at) || one.id - other.id
