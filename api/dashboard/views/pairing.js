// Linking a connection to a phone: by a picture to scan, or by a code to type there.

import { address, call, post, segment, socketAddress } from '../api.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { t } from '../i18n.js'
import { icon } from '../icons.js'
import { announce, dialog, loading, problem, quoted } from '../ui.js'

const RECONNECT = 1_000 // ms

/** Begin to pair, in a dialog; `done` resolves when it is closed. */
export function pair(name, { force, onDone }) {
  const flow = new Flow(name, force, onDone)
  flow.open()
  return flow
}

class Flow {
  constructor(name, force, onDone) {
    this.name = name
    this.force = force
    this.onDone = onDone
    this.path = `/connections/${segment(name)}`
    this.news = null // the newest PairingView
    this.heard = 0 // performance.now() when it came
    this.error = null
    this.after = 0 // the version before this pairing
    this.phone = null
    this.socket = null
    this.closed = false
  }

  open() {
    const shown = dialog(t('pairing.title', { name: this.name }), () => this.render(), [{ label: t('action.close'), value: '' }])
    this.update = shown.update
    this.close = shown.close
    const timer = setInterval(this.update, 1000)
    this.done = shown.done.then(() => {
      this.closed = true
      clearInterval(timer)
      this.socket?.close()
    })
    this.begin()
  }

  /** Ask for a code: for a picture, or, with a number, for letters to type. */
  async begin(phone = null) {
    this.news = null
    this.error = null
    this.phone = phone
    this.update()
    try {
      const before = await call('GET', `${this.path}/pairing`, { query: { wait: 0.05 } })
      this.after = before.body?.version ?? 0
      await post(`${this.path}/pair`, undefined, { force: this.force || null, phone })
      this.force = true // from here on a further code replaces one of ours
      this.listen()
    } catch (error) {
      this.error = error
    }
    this.update()
  }

  listen() {
    this.socket?.close()
    const socket = new WebSocket(socketAddress(`${this.path}/pairing/ws`, { after: this.news?.version ?? this.after }))
    this.socket = socket
    socket.onmessage = message => this.take(JSON.parse(message.data))
    socket.onclose = () => {
      if (this.closed || this.socket !== socket || this.isOver()) return
      setTimeout(() => !this.closed && this.socket === socket && this.listen(), RECONNECT)
    }
  }

  isOver() {
    return ['paired', 'failed'].includes(this.news?.state)
  }

  take(news) {
    if (news.version <= this.after) return // of a pairing before this one
    const before = this.news?.state
    this.news = news
    this.heard = performance.now()
    if (news.state !== before) announce(t(`pairing.${news.state}`))
    if (this.isOver()) {
      this.socket?.close()
      this.onDone()
    }
    this.update()
  }

  left() {
    const { expires_in: seconds } = this.news
    return seconds === null ? null : Math.max(0, seconds - (performance.now() - this.heard) / 1000)
  }

  render() {
    if (this.error !== null) return [problem(this.error, () => this.begin(this.phone)), this.byNumber()]
    switch (this.news?.state) {
      case 'paired':
        return h('div', { class: 'pairing done', 'data-pairing': 'paired' }, h('span', { class: 'big good' }, icon('online')),
          h('p', {}, t('pairing.success', { name: this.name })))
      case 'failed':
        return h('div', { class: 'pairing', 'data-pairing': 'failed' },
          h('div', { class: 'notice bad', role: 'alert' }, h('p', {}, h('strong', {}, t('pairing.failed')), ' ', quoted(this.news.sentence)),
            h('button', { type: 'button', onclick: () => this.begin(this.phone) }, t('action.retry'))), this.byNumber())
      case 'code':
        return h('div', { class: 'pairing', 'data-pairing': 'code' }, this.news.code ? this.letters() : this.picture(), this.countdown(), this.byNumber())
      default:
        return [loading(), h('p', { class: 'soft', 'data-pairing': 'waiting' }, t('pairing.waiting'))]
    }
  }

  picture() {
    const { version } = this.news
    return [h('img', { class: 'qr', width: 264, height: 264, alt: t('pairing.picture'), 'data-key': 'qr',
      src: address(`${this.path}/pairing/qr.svg`, { version }) }), steps('pairing.scan', 3)]
  }

  letters() {
    const code = this.news.code.replace(/^(.{4})-?(.{4})$/, '$1-$2')
    return [h('p', { class: 'letters', 'aria-label': [...code].join(' ') }, code), steps('pairing.type', 3)]
  }

  countdown() {
    const left = this.left()
    return left === null ? null : h('p', { class: 'soft countdown' }, t('pairing.expires', { time: format.clock(left) }))
  }

  byNumber() {
    const go = () => {
      const field = document.getElementById('phone')
      if (field.value.trim()) this.begin(field.value.trim())
      else field.focus()
    }
    return h('details', { class: 'by-number' }, h('summary', {}, t('pairing.byNumber')),
      h('label', { for: 'phone' }, t('pairing.number')),
      h('div', { class: 'line' }, h('input', { id: 'phone', type: 'tel', autocomplete: 'off', placeholder: '+55 11 …', inputmode: 'tel',
        onkeydown: event => event.key === 'Enter' && go() }),
      h('button', { type: 'button', onclick: go }, t('pairing.getCode'))))
  }
}

const steps = (key, many) => h('ol', { class: 'steps' },
  Array.from({ length: many }, (_, index) => h('li', {}, t(`${key}.${index + 1}`))))
