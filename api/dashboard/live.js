// The stream of events: what changed since a cursor. Reconnects with growing pauses and resumes
// where it was; whoever listens is told in batches, so that a flood is one piece of news.

import { call, SIGNED_OUT, socketAddress } from './api.js'

const FIRST_PAUSE = 1_000 // ms
const LONGEST_PAUSE = 30_000
const STABLE = 10_000 // ms that a connection must hold before the pauses are short again
const BATCH_PAUSE = 150 // ms that events are gathered for
const MOST_EVENTS = 500 // of one batch; more of them say no more than "much has changed"
const SLOW_READER = 4008 // the daemon let go of us; it goes on from the cursor
const NOBODY = 4401 // the session is over
const GONE = 4410 // what is behind the cursor was deleted

export class Live {
  /** `onEvents(events, missed)`: a batch, and whether there were more than it holds;
   * `onStatus({ connected, since, nextTry })`; times in ms. */
  constructor(onEvents, onStatus) {
    this.onEvents = onEvents
    this.onStatus = onStatus
    this.status = { connected: false, since: Date.now(), nextTry: null }
    this.cursor = null
    this.pause = FIRST_PAUSE
    this.socket = null
    this.timer = null
    this.batch = []
    this.missed = false
    this.batchTimer = null
    this.stopped = true
  }

  start() {
    this.stopped = false
    this.connect()
  }

  stop() {
    this.stopped = true
    clearTimeout(this.timer)
    clearTimeout(this.batchTimer)
    this.socket?.close()
    this.socket = null
  }

  async connect() {
    clearTimeout(this.timer)
    this.tell({ nextTry: null })
    try {
      const newest = (await call('GET', '/events/cursor')).body.id
      if (this.cursor === null || newest < this.cursor) {
        this.cursor = newest
        this.note(null, true) // what was shown so far may be older than the cursor
      }
    } catch {
      return this.again() // the status tells it; the page's own requests say why
    }
    if (this.stopped) return
    const socket = new WebSocket(socketAddress('/events/ws', { after: this.cursor }))
    let opened = null
    this.socket = socket
    socket.onopen = () => {
      opened = performance.now()
      this.tell({ connected: true, since: Date.now(), nextTry: null })
    }
    socket.onmessage = message => {
      const event = JSON.parse(message.data)
      this.cursor = event.id
      this.note(event, false)
    }
    socket.onclose = closing => {
      if (this.socket !== socket || this.stopped) return
      this.socket = null
      if (closing.code === NOBODY) window.dispatchEvent(new Event(SIGNED_OUT))
      if (opened !== null && performance.now() - opened > STABLE) this.pause = FIRST_PAUSE
      if (opened === null || closing.code === GONE) this.cursor = null
      if (this.status.connected) this.tell({ connected: false, since: Date.now() })
      this.again(closing.code === SLOW_READER ? FIRST_PAUSE : undefined)
    }
  }

  again(pause = this.pause) {
    if (this.stopped) return
    const wait = pause * (0.5 + Math.random() / 2)
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE)
    this.tell({ nextTry: Date.now() + wait })
    this.timer = setTimeout(() => this.connect(), wait)
  }

  note(event, missed) {
    if (event !== null && this.batch.length < MOST_EVENTS) this.batch.push(event)
    else this.missed = true
    this.missed ||= missed
    this.batchTimer ??= setTimeout(() => {
      const [events, more] = [this.batch, this.missed]
      this.batch = []
      this.missed = false
      this.batchTimer = null
      this.onEvents(events, more)
    }, BATCH_PAUSE)
  }

  tell(changes) {
    this.status = { ...this.status, ...changes }
    this.onStatus(this.status)
  }
}
