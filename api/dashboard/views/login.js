// Signing in with a token.

import { get, post } from '../api.js'
import { h } from '../dom.js'
import { t } from '../i18n.js'
import { problem } from '../ui.js'

export class Login {
  constructor(app) {
    this.app = app
    this.error = app.startError
    this.busy = false
  }

  title() {
    return t('login.title')
  }

  render() {
    return h('form', { class: 'login panel', onsubmit: event => this.submit(event), 'aria-labelledby': 'login-title' },
      h('h1', { id: 'login-title' }, t('login.title')),
      h('p', {}, t('login.how')),
      h('pre', {}, h('code', {}, 'zapvisor token create NAME --scope operate')),
      h('label', { for: 'token' }, t('login.token')),
      h('input', { id: 'token', name: 'token', type: 'password', autocomplete: 'current-password', required: true,
        spellcheck: 'false', autocapitalize: 'none', 'aria-describedby': this.error ? 'login-error' : null }),
      this.error && h('div', { id: 'login-error' },
        this.error.status === 401 ? h('p', { class: 'notice bad', role: 'alert' }, t('login.wrong')) : problem(this.error, () => location.reload())),
      h('button', { type: 'submit', class: 'primary', 'aria-disabled': this.busy ? 'true' : null }, t('login.enter')))
  }

  async submit(event) {
    event.preventDefault()
    if (this.busy) return
    const field = event.target.elements.token
    this.busy = true
    this.error = null
    this.app.render()
    try {
      await post('/session', { token: field.value.trim() })
      field.value = ''
      this.app.enter(await get('/session'))
    } catch (error) {
      this.error = error
      this.busy = false
      this.app.paint()
      field.focus()
    }
  }
}
