// The frame around every view: where one can go, how things are, language, theme, signing out.

import { h } from './dom.js'
import * as format from './format.js'
import { chooseLanguage, currentLanguage, LANGUAGES, t } from './i18n.js'
import { icon } from './icons.js'
import { remember } from './memory.js'
import { announce } from './ui.js'

const PLACES = [
  ['#/', /^\/(connections\/|$|\?)/, 'nav.overview'],
  ['#/conversations', /^\/conversations/, 'nav.conversations'],
  ['#/alerts', /^\/alerts/, 'nav.alerts'],
  ['#/gaps', /^\/gaps/, 'nav.gaps'],
  ['#/quarantine', /^\/quarantine/, 'nav.quarantine'],
]

export function shell(app) {
  return h('header', { class: 'top' },
    h('div', { class: 'brand' },
      h('span', { class: `mark ${app.session ? app.health.data?.verdict ?? '' : ''}`, 'aria-hidden': 'true' }), 'zapvisor'),
    app.session && h('nav', { 'aria-label': t('nav.label') }, h('ul', {}, PLACES.map(([place, pattern, key]) =>
      h('li', {}, h('a', { href: place, 'aria-current': pattern.test(app.path ?? '') ? 'page' : null }, t(key), count(app, key)))))),
    app.session && liveMark(app),
    h('div', { class: 'tools' },
      app.outdated && h('button', { type: 'button', class: 'primary', onclick: () => location.reload() }, t('app.newVersion')),
      language(app), theme(app),
      app.session && h('button', { type: 'button', class: 'quiet', onclick: () => app.signOut(),
        title: t('session.signedIn', { name: app.session.name ?? '' }) }, icon('exit'), h('span', { class: 'wide' }, t('session.signOut')))))
}

function count(app, key) {
  const data = app.health.data
  const many = { 'nav.gaps': data?.gaps?.open, 'nav.quarantine': data?.quarantine, 'nav.alerts': app.alerts.waiting() }[key]
  if (!many) return null
  return h('span', { class: 'count' }, format.number(many), h('span', { class: 'hidden' }, ` ${t('nav.open')}`))
}

/** Whether what is shown is of now, and if not, since when. */
function liveMark(app) {
  const { live, health } = app
  if (health.error !== null && health.since !== null) {
    return mark('bad', 'still', t('live.noAnswer', { time: format.time(health.since, true) }))
  }
  if (live.connected) return mark('good', 'live', t('live.live'))
  const pause = live.nextTry === null ? null : Math.max(0, Math.round((live.nextTry - Date.now()) / 1000))
  const text = t('live.notConnected', { time: format.time(live.since, true) })
  return mark('warn', 'still', pause === null ? text : `${text} · ${t('live.again', { time: format.duration(Math.max(1, pause)) })}`)
}

const mark = (tone, picture, text) =>
  h('span', { class: `live ${tone}`, title: text, 'data-live': tone }, icon(picture), h('span', { class: 'live-text' }, text))

function language(app) {
  return h('label', { class: 'choice' }, h('span', { class: 'hidden' }, t('app.language')),
    h('select', {
      value: currentLanguage(),
      onchange: async event => {
        try {
          await chooseLanguage(event.target.value)
          app.refreshAlerts(0)
          app.refreshView()
        } catch (error) {
          announce(error.message)
          event.target.value = currentLanguage()
        }
        app.render()
      },
    }, Object.entries(LANGUAGES).map(([key, name]) =>
      h('option', { value: key, lang: key, selected: key === currentLanguage() }, name))))
}

function theme(app) {
  const dark = isDark()
  const label = t(dark ? 'app.light' : 'app.dark')
  return h('button', { type: 'button', class: 'quiet square', 'aria-label': label, title: label,
    onclick: () => {
      const next = dark ? 'light' : 'dark'
      document.documentElement.dataset.theme = next
      remember('theme', next)
      announce(t(next === 'dark' ? 'app.isDark' : 'app.isLight'))
      app.render()
    } }, icon(dark ? 'sun' : 'moon'))
}

function isDark() {
  const chosen = document.documentElement.dataset.theme
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches
}
