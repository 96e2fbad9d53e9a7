// Real Baileys clients behind JSON lines: commands on stdin, answers and events on stdout.
//
//   {"id": 1, "op": "connect", "name": "alice", "phone": "15550001"}   pair (or log in) and wait for "open"
//   {"id": 2, "op": "send", "name": "alice", "to": "…@s.whatsapp.net", "content": {"text": "hello"}}
//   {"id": 3, "op": "call", "name": "alice", "method": "groupCreate", "args": ["subject", ["…"]]}
//
//   {"id": 4, "op": "relay", "name": "alice", "to": "…", "message": {…Message…}}  what sendMessage does not build
//   {"id": 5, "op": "seal", "name": "alice", "parent": "ID", "use": "Poll Vote", …}  an encrypted answer to a message
//
// answers {"re": 1, "ok": true, "value": …} or {"re": 1, "ok": false, "error": "…"},
// events  {"event": "messages.upsert", "name": "alice", "data": …}.
//
// In all parameters {"$message": "ID"} stands for a message that the client has sent or received,
// {"$key": "ID"} for its key, {"$content": "ID"} for what is in it, {"$bytes": "base64"} for bytes, {"$date": ms} for a date.
//
// SIMULATOR names the server, as http://host:port. One process serves any number of clients.

import { createCipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'

const SIMULATOR = process.env.SIMULATOR
const DEBUG = Boolean(process.env.DEBUG)

const say = object => process.stdout.write(JSON.stringify(object, plain) + '\n')
const complain = (...parts) => DEBUG && process.stderr.write(parts.map(String).join(' ') + '\n')

// The Signal library under Baileys prints whole sessions, private keys included, to the console.
for (const level of ['log', 'info', 'warn', 'debug', 'error', 'trace']) console[level] = complain

const baileys = await import('baileys')
const {
  default: makeWASocket, initAuthCreds, DisconnectReason, WA_CERT_DETAILS, proto,
  decryptPollVote, downloadMediaMessage, generateWAMessageFromContent, useMultiFileAuthState,
} = baileys

// Until a client has asked for media hosts, it looks for files at the public one.
const PUBLIC_MEDIA_HOST = 'https://mmg.whatsapp.net/'
const fetchAnywhere = globalThis.fetch
globalThis.fetch = (url, ...rest) => fetchAnywhere(
  String(url).startsWith(PUBLIC_MEDIA_HOST)
    ? String(url).replace(PUBLIC_MEDIA_HOST, SIMULATOR.replace(/^http:/, 'https:') + '/')
    : url, ...rest)

const EVENTS = [
  'messages.upsert', 'messages.update', 'message-receipt.update', 'messages.reaction', 'messages.delete',
  'groups.upsert', 'groups.update', 'group-participants.update', 'messaging-history.set',
  'contacts.upsert', 'contacts.update', 'chats.upsert', 'chats.update', 'labels.edit', 'labels.association',
  'presence.update', 'call', 'lid-mapping.update',
]
const OPEN_DEADLINE = 30_000

function plain(_key, value) {
  if (typeof value === 'bigint') return Number(value)
  if (value?.type === 'Buffer' && Array.isArray(value.data)) return Buffer.from(value.data).toString('base64')
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  return value
}

const logger = {
  level: 'silent', child: () => logger,
  ...Object.fromEntries(['trace', 'debug', 'info', 'warn', 'error', 'fatal'].map(
    level => [level, (...parts) => complain(level, ...parts.map(part => {
      try { return part instanceof Error ? part.stack : JSON.stringify(part, plain) } catch { return String(part) }
    }))])),
}

class MemoryKeys {
  #rows = new Map()

  async get(type, ids) {
    const found = {}
    for (const id of ids) {
      const value = this.#rows.get(`${type}/${id}`)
      if (value !== undefined && value !== null) found[id] = value
    }
    return found
  }

  async set(data) {
    for (const [type, rows] of Object.entries(data)) {
      for (const [id, value] of Object.entries(rows)) {
        if (value === null || value === undefined) this.#rows.delete(`${type}/${id}`)
        else this.#rows.set(`${type}/${id}`, value)
      }
    }
  }
}

class Client {
  constructor(name, phone) {
    this.name = name
    this.phone = phone
    this.creds = initAuthCreds()
    this.keys = new MemoryKeys()
    this.messages = new Map()  // sent and received, by id
    this.socket = undefined
    this.wanted = false
    this.save = async () => {}
    this.saved = Promise.resolve()
  }

  // Keep credentials and keys in a directory, in the client's own form.
  async keepIn(directory) {
    const { state, saveCreds } = await useMultiFileAuthState(directory)
    this.creds = state.creds
    this.keys = state.keys
    this.save = saveCreds
  }

  start() {
    const socket = makeWASocket({
      auth: { creds: this.creds, keys: this.keys },
      logger,
      waWebSocketUrl: SIMULATOR.replace(/^http/, 'ws') + '/ws/chat',
      pushName: this.name,
      getMessage: async key => this.messages.get(key.id)?.message,
    })
    this.socket = socket
    this.wanted = true
    for (const event of EVENTS) socket.ev.on(event, data => say({ event, name: this.name, data }))
    socket.ev.on('messages.upsert', ({ messages }) => messages.forEach(m => m.message && this.messages.set(m.key.id, m)))
    socket.ev.on('creds.update', update => {
      Object.assign(this.creds, update)
      this.saved = this.saved.then(() => this.save())
    })
    socket.ev.on('connection.update', update => this.#connection(socket, update))
  }

  #connection(socket, { connection, lastDisconnect, qr }) {
    if (socket !== this.socket) return
    if (qr) this.onQr ? this.onQr() : this.#scan(qr)
    if (!connection) return
    const code = lastDisconnect?.error?.output?.statusCode
    say({ event: 'connection', name: this.name, data: { state: connection, code, detail: lastDisconnect?.error?.message } })
    if (connection === 'close' && code === DisconnectReason.restartRequired && this.wanted) this.start()
    this.onConnection?.(connection, code)
  }

  async #scan(text) {
    const query = new URLSearchParams({ name: this.name })
    if (this.phone) query.set('phone', this.phone)
    const answer = await fetch(`${SIMULATOR}/admin/mock-phone/scan-qr?${query}`, { method: 'POST', body: text })
    if (!answer.ok) say({ event: 'scan-refused', name: this.name, data: await answer.text() })
  }

  async open() {
    const identity = await this.#until('open', () => this.start())
    // Without a name it never counts as available, and its delivery receipts say "inactive".
    this.creds.me = { ...this.creds.me, name: this.name }
    await this.socket.sendPresenceUpdate('available')
    return identity
  }

  // Show a pairing code instead of a QR code; `opened` is settled once it was typed.
  async showCode() {
    const asked = new Promise(resolve => { this.onQr = resolve })
    this.opened = this.open()
    this.opened.catch(() => {})
    await asked
    return this.socket.requestPairingCode(this.phone)
  }

  async close() {
    this.wanted = false
    const closed = await this.#until('close', () => this.socket.end(undefined))
    await this.saved
    return closed
  }

  known(id) {
    return this.messages.get(id) ?? (() => { throw new Error(`${this.name} knows no message ${id}`) })()
  }

  // Put in what the markers of an order stand for.
  revive(value) {
    if (Array.isArray(value)) return value.map(item => this.revive(item))
    if (value === null || typeof value !== 'object') return value
    if ('$message' in value) return this.known(value.$message)
    if ('$key' in value) return { ...this.known(value.$key).key }
    if ('$content' in value) return this.known(value.$content).message
    if ('$bytes' in value) return Buffer.from(value.$bytes, 'base64')
    if ('$date' in value) return new Date(value.$date)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.revive(item)]))
  }

  // What the sender of a message gave its readers to encrypt answers with.
  // Source: docs/protocol.md#message-secrets
  seal({ parent, use, type, fields, creator, author, bound }) {
    const secret = this.known(parent).message.messageContextInfo.messageSecret
    const key = hkdfSync('sha256', secret, Buffer.alloc(32), Buffer.from(parent + creator + author + use), 32)
    const encIv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', Buffer.from(key), encIv)
    if (bound) cipher.setAAD(Buffer.from(`${parent}\0${author}`))
    const kind = type.split('.').reduce((scope, part) => scope[part], proto)
    const opened = kind.encode(kind.fromObject(this.revive(fields))).finish()
    return { encPayload: Buffer.concat([cipher.update(opened), cipher.final(), cipher.getAuthTag()]), encIv }
  }

  #until(state, action) {
    const began = performance.now()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no "${state}" within ${OPEN_DEADLINE} ms`)), OPEN_DEADLINE)
      this.onConnection = (now, code) => {
        if (now === 'close' && state === 'open' && code !== DisconnectReason.restartRequired) {
          clearTimeout(timer)
          reject(new Error(`closed with code ${code}`))
        }
        if (now !== state) return
        clearTimeout(timer)
        const { id, lid } = this.creds.me ?? {}
        resolve({ jid: id, lid, ms: performance.now() - began })
      }
      action()
    })
  }
}

const clients = new Map()
const client = name => clients.get(name) ?? (() => { throw new Error(`no client called ${name}`) })()

const operations = {
  async connect({ name, phone, directory }) {
    clients.set(name, new Client(name, phone))
    if (directory) await client(name).keepIn(directory)
    return client(name).open()
  },
  async pairingCode({ name, phone }) {
    clients.set(name, new Client(name, phone))
    return client(name).showCode()
  },
  opened: ({ name }) => client(name).opened,
  disconnect: ({ name }) => client(name).close(),
  reconnect: ({ name }) => client(name).open(),
  async send({ name, to, content, options }) {
    const self = client(name)
    const message = await self.socket.sendMessage(to, self.revive(content), self.revive(options ?? {}))
    if (!message) return null  // settings of a group are no messages
    self.messages.set(message.key.id, message)
    return { ...message.key }
  },
  async relay({ name, to, message, attributes, nodes }) {
    const self = client(name)
    const content = proto.Message.fromObject(self.revive(message))
    const full = generateWAMessageFromContent(to, content, { userJid: self.creds.me.id })
    self.messages.set(full.key.id, full)
    await self.socket.relayMessage(to, full.message, {
      messageId: full.key.id, additionalAttributes: attributes ?? {}, additionalNodes: nodes ?? [],
    })
    return { ...full.key }
  },
  seal: ({ name, ...answer }) => client(name).seal(answer),
  options({ name, poll, vote, creator, voter }) {
    const self = client(name)
    const { message } = self.known(poll)
    const asked = message.pollCreationMessage ?? message.pollCreationMessageV3
    const { selectedOptions } = decryptPollVote(self.known(vote).message.pollUpdateMessage.vote, {
      pollCreatorJid: creator, voterJid: voter, pollMsgId: poll,
      pollEncKey: message.messageContextInfo.messageSecret,
    })
    const hashed = text => createHash('sha256').update(text).digest('hex')
    const names = new Map(asked.options.map(({ optionName }) => [hashed(optionName), optionName]))
    return selectedOptions.map(option => names.get(Buffer.from(option).toString('hex')))
  },
  download: ({ name, message }) => downloadMediaMessage(client(name).known(message), 'buffer', {}),
  call: ({ name, method, args }) => client(name).socket[method](...client(name).revive(args)),
  stats: () => ({ clients: clients.size, ...process.memoryUsage() }),
  quit: () => process.exit(0),
}

process.on('unhandledRejection', error => say({ event: 'unhandled', name: '', data: String(error?.stack ?? error) }))
if (WA_CERT_DETAILS) {
  const root = await (await fetch(`${SIMULATOR}/admin/root`)).text()
  WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(root.trim(), 'hex')
}
say({ event: 'ready', name: '', data: { pid: process.pid } })

createInterface({ input: process.stdin }).on('line', async line => {
  const { id, op, ...parameters } = JSON.parse(line)
  try {
    say({ re: id, ok: true, value: (await operations[op](parameters)) ?? null })
  } catch (error) {
    say({ re: id, ok: false, error: String(error?.message ?? error) })
  }
}).on('close', () => process.exit(0))
