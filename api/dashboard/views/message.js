// One message. What strangers wrote only ever becomes text.

import { address, get, post } from '../api.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { has, t } from '../i18n.js'
import { icon } from '../icons.js'
import { announce, badge, quoted, when, word } from '../ui.js'

const LINK = /https?:\/\/[^\s<>"'`]+/gi
const TRAILING = /[.,;:!?)\]}…]+$/ // ends the sentence, not the link
const PICTURES = new Set(['image/jpeg', 'image/png', 'image/webp', 'image/gif'])
const LARGEST_PICTURE = 3_000_000 // bytes that are shown without being asked for
const MOST_REVEALED = 500 // messages whose former content is kept, until the page is left
const revealed = new Map() // how to show it, by message and state
const SPOKEN = new Set(['text']) // kinds that need no word

/** A message as an item of a list. */
export function messageItem(message, app) {
  const own = message.from_me
  const classes = ['message', own ? 'out' : 'in', message.deleted && 'deleted', message.state === 'undecryptable' && 'unread'].filter(Boolean)
  return h('li', { class: classes.join(' '), 'data-key': `message-${message.id}`, 'data-message': message.id },
    h('div', { class: 'bubble' },
      h('p', { class: 'by' }, h('span', { class: 'sender', dir: 'auto' }, own ? t('message.team') : person(message.sender)),
        h('span', { class: 'hidden' }, own ? ` ${t('message.out')}` : ` ${t('message.in')}`),
        !SPOKEN.has(message.kind) && message.state !== 'undecryptable' && badge(word('kind', message.kind)),
        message.flags.filter(flag => has(`flag.${flag}`)).map(flag => badge(t(`flag.${flag}`)))),
      message.deleted ? deleted(message, app) : content(message, app),
      reactions(message),
      h('p', { class: 'foot' }, message.lane === 'history' && `${t('message.history')} · `,
        when(message.sent_at, format.time(message.sent_at)), own && message.status && ` · ${word('sent', message.status)}`)))
}

const person = ({ name, shown, addresses, is_self: self }) =>
  self ? t('message.team') : name ?? (addresses.length ? shown : t('person.forgotten'))

function deleted(message, app) {
  const { by, at } = message.deleted
  return [h('p', { class: 'gone' }, icon('bin'), t('message.deleted', { name: person(by), time: format.moment(at) })),
    message.removed ? removed(message)
      : former(message, app, { class: 'reveal', 'data-key': 'deleted' }, t('message.reveal'), full => content(full, app))]
}

/** That nothing is left to show, and why. */
const removed = message => h('p', { class: 'gone' }, t(message.removed === 'forgotten' ? 'message.forgotten' : 'message.expired'))

/** What a message said before, once somebody asks for it: that is put on record. */
function former(message, app, props, label, show) {
  if (!app.can('history')) return null
  const key = `${message.id} ${message.versions.length} ${message.deleted !== null}`
  return h('details', { ...props, ontoggle: event => event.target.open && reveal(message.id, key, app) },
    h('summary', {}, label), revealed.has(key) ? revealed.get(key)(show) : h('p', { class: 'soft' }, t('app.loading')))
}

async function reveal(id, key, app) {
  if (revealed.has(key)) return
  try {
    const { message } = await get(`/messages/${id}/history`)
    if (revealed.size >= MOST_REVEALED) revealed.clear()
    revealed.set(key, show => show(message))
  } catch (error) {
    announce(error.message)
    revealed.set(key, () => h('p', { class: 'soft' }, error.message))
    setTimeout(() => revealed.delete(key), 5000) // then it can be asked for again
  }
  app.render()
}

function content(message, app) {
  if (message.removed) return removed(message)
  if (message.state === 'undecryptable') return unreadable(message)
  return [quote(message.quoted), file(message, app), text(message), votes(message), versions(message, app)]
}

function unreadable({ reason, verdict, retries }) {
  return [h('p', { class: 'gone' }, icon('lock'), t(verdict === null ? 'message.unreadable' : 'message.neverReadable')),
    h('details', { class: 'reveal', 'data-key': 'unreadable' }, h('summary', {}, t('action.details')),
      h('p', { class: 'soft' }, [quoted([reason, verdict].filter(Boolean).join('; ')), retries ? ` · ${t('message.retries', { count: retries })}` : '']))]
}

function text({ text: written, media, kind, detail }) {
  if (written) return h('p', { class: 'text', dir: 'auto' }, linked(written))
  if (media || detail?.kind) return null
  return h('p', { class: 'gone' }, t('message.without', { kind: word('kind', kind) }))
}

/** Text with its web addresses as links, which are never followed by themselves. */
export function linked(written) {
  const parts = []
  let done = 0
  for (const match of written.matchAll(LINK)) {
    const found = match[0].replace(TRAILING, '')
    if (!isWeb(found)) continue
    parts.push(written.slice(done, match.index),
      h('a', { href: found, target: '_blank', rel: 'noopener noreferrer nofollow', referrerpolicy: 'no-referrer' }, found))
    done = match.index + found.length
  }
  parts.push(written.slice(done))
  return parts
}

function isWeb(text) {
  try {
    const url = new URL(text)
    return ['http:', 'https:'].includes(url.protocol) && !url.username && !url.password
  } catch {
    return false
  }
}

function quote(quoted) {
  if (!quoted) return null
  return h('blockquote', { dir: 'auto' }, h('p', { class: 'by' }, quoted.author ? person(quoted.author) : t('message.somebody')),
    h('p', {}, quoted.text || (quoted.kind ? word('kind', quoted.kind) : t('message.notHere'))))
}

function file({ id, media }, app) {
  if (!media) return null
  const place = address(`/messages/${id}/media`)
  const name = media.name || word('kind', media.kind)
  const about = [media.mimetype, media.size === null ? null : format.bytes(media.size)].filter(Boolean).join(' · ')
  if (media.state !== 'stored') {
    return h('div', { class: 'file' }, icon('file'), h('span', { class: 'file-name', dir: 'auto' }, name),
      h('span', { class: 'soft' }, about, about && ' · ', word('media', media.state)),
      media.error && quoted(media.error, { class: 'soft' }),
      app.can('operate') && media.state !== 'removed' && h('button', { type: 'button', onclick: () => fetchFile(id) }, t('message.fetch')))
  }
  const picture = PICTURES.has(media.mimetype) && media.kind !== 'document' && (media.size ?? 0) <= LARGEST_PICTURE
  const open = { href: place, target: '_blank', rel: 'noopener noreferrer' }
  if (picture) {
    return h('a', { ...open, class: 'picture' }, h('img', { src: place, loading: 'lazy', decoding: 'async',
      alt: t('message.picture', { kind: word('kind', media.kind), name: media.name ?? '' }) }))
  }
  return h('a', { ...open, class: 'file' }, icon('file'), h('span', { class: 'file-name', dir: 'auto' }, name), h('span', { class: 'soft' }, about))
}

async function fetchFile(id) {
  try {
    await post(`/messages/${id}/media`)
    announce(t('message.fetching'))
  } catch (error) {
    announce(error.message)
  }
}

function votes({ votes: cast }) {
  if (!cast?.length) return null
  const counts = new Map()
  for (const { options, voter } of cast) {
    for (const option of options) counts.set(option, [...(counts.get(option) ?? []), person(voter)])
  }
  return h('ul', { class: 'votes' }, [...counts].map(([option, voters]) =>
    h('li', {}, h('span', { dir: 'auto' }, option), ' ', badge(format.number(voters.length)), h('span', { class: 'soft', dir: 'auto' }, ` ${voters.join(', ')}`))))
}

function versions(message, app) {
  const { versions: texts, withheld } = message
  if (!texts?.length) return null
  const count = texts.length - 1
  if (withheld && !app.can('history')) return h('p', { class: 'soft' }, t('message.changed', { count }), ' ', when(texts[count].at))
  const props = { class: 'versions', 'data-key': 'versions' }
  const label = t('message.edited', { count })
  return withheld ? former(message, app, props, label, earlier) : h('details', props, h('summary', {}, label), earlier(message))
}

const earlier = ({ versions: texts }) => h('ol', {}, texts.slice(0, -1).map(version =>
  h('li', {}, when(version.at), ' ', h('span', { class: 'text', dir: 'auto' }, version.text ?? format.NOTHING))))

function reactions({ reactions: all }) {
  if (!all?.length) return null
  return h('ul', { class: 'reactions', 'aria-label': t('message.reactions') }, all.map(({ emoji, sender }) =>
    h('li', { title: person(sender) }, emoji, h('span', { class: 'hidden' }, ` ${person(sender)}`))))
}
