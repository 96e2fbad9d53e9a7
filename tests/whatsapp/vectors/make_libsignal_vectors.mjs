// Makes libsignal_vectors.json: conversations between two parties of npm libsignal 6.0.0, and group
// messages of the Baileys group cipher, with every private key that was drawn on the way.
//
//   cd $(mktemp -d) && npm install libsignal@6.0.0 baileys@7.0.0-rc14
//   node PATH/TO/make_libsignal_vectors.mjs . > PATH/TO/libsignal_vectors.json
//
// All keys come from a counter, so the output is the same every time. libsignal is GPL-3.0: it is
// run here as a peer, nothing of it is part of this project.
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const root = resolve(process.argv[2] ?? '.');
const require = createRequire(pathToFileURL(root + '/'));
const libsignal = require('libsignal');
const curve = require('libsignal/src/curve');
for (const level of ['log', 'info', 'warn', 'error']) console[level] = () => {}; // it prints keys

const hex = (bytes) => Buffer.from(bytes).toString('hex');
let drawn = [];
let counter = 0;
const bytes = (label) => createHash('sha256').update(`zapvisor ${label} ${counter++}`).digest();
curve.generateKeyPair = () => {
  const privKey = bytes('key');
  privKey[0] &= 248;
  privKey[31] = (privKey[31] & 127) | 64;
  const pair = { privKey, pubKey: curve.getPublicFromPrivateKey(privKey) };
  drawn.push(hex(privKey));
  return pair;
};

class Party {
  constructor(registrationId) {
    this.registrationId = registrationId;
    this.identity = curve.generateKeyPair();
    this.signed = { keyId: 1, keyPair: curve.generateKeyPair() };
    this.signed.signature = curve.calculateSignature(this.identity.privKey, this.signed.keyPair.pubKey);
    this.one = { keyId: 77, keyPair: curve.generateKeyPair() };
    this.sessions = new Map();
  }
  bundle(withPrekey) {
    const bundle = {
      identityKey: this.identity.pubKey,
      registrationId: this.registrationId,
      signedPreKey: { keyId: 1, publicKey: this.signed.keyPair.pubKey, signature: this.signed.signature },
    };
    if (withPrekey) bundle.preKey = { keyId: 77, publicKey: this.one.keyPair.pubKey };
    return bundle;
  }
  describe() {
    return {
      registration_id: this.registrationId,
      identity: hex(this.identity.privKey),
      signed_prekey: hex(this.signed.keyPair.privKey),
      signed_prekey_signature: hex(this.signed.signature),
      prekey: hex(this.one.keyPair.privKey),
    };
  }
  // What libsignal asks of a store.
  loadSession(address) { return this.sessions.get(address) && libsignal.SessionRecord.deserialize(this.sessions.get(address)); }
  storeSession(address, record) { this.sessions.set(address, record.serialize()); }
  isTrustedIdentity() { return true; }
  getOurIdentity() { return this.identity; }
  getOurRegistrationId() { return this.registrationId; }
  loadPreKey(id) { return id === 77 ? this.one.keyPair : undefined; }
  removePreKey() {}
  loadSignedPreKey() { return this.signed.keyPair; }
}

async function conversation(name, withPrekey, script) {
  counter = 0;
  const parties = { alice: new Party(1111), bob: new Party(2222) };
  const other = { alice: 'bob', bob: 'alice' };
  const address = (who) => new libsignal.ProtocolAddress(who, 0);
  const sent = [];
  const events = [];
  const record = async (event, run) => {
    drawn = [];
    await run();
    events.push({ ...event, drawn });
  };
  const api = {
    start: (who) => record({ do: 'start', who }, () =>
      new libsignal.SessionBuilder(parties[who], address(other[who])).initOutgoing(parties[other[who]].bundle(withPrekey))),
    send: async (who, text) => {
      const plaintext = Buffer.from(text ?? `${who} ${sent.length}`.repeat(1 + (sent.length % 5)));
      const event = { do: 'send', who, plaintext: hex(plaintext) };
      await record(event, async () => {
        const out = await new libsignal.SessionCipher(parties[who], address(other[who])).encrypt(plaintext);
        event.type = out.type === 3 ? 'pkmsg' : 'msg';
        event.body = hex(out.body);
        sent.push({ who, ...out, plaintext });
      });
      Object.assign(events.at(-1), event);
      return sent.length - 1;
    },
    deliver: (id) => record({ do: 'deliver', id }, async () => {
      const { who, type, body, plaintext } = sent[id];
      const cipher = new libsignal.SessionCipher(parties[other[who]], address(who));
      const read = type === 3 ? await cipher.decryptPreKeyWhisperMessage(body) : await cipher.decryptWhisperMessage(body);
      if (!Buffer.from(read).equals(plaintext)) throw new Error(`${name}: message ${id} misread`);
    }),
  };
  await script(api);
  return { name, with_prekey: withPrekey, parties: { alice: parties.alice.describe(), bob: parties.bob.describe() }, events };
}

async function lively({ start, send, deliver }) {
  await start('alice');
  const first = await send('alice');
  const second = await send('alice', '');
  const third = await send('alice', 'x'.repeat(300));
  await deliver(third);
  await deliver(first);
  await deliver(await send('bob'));
  await deliver(second); // a prekey message of the chain before
  const late = [];
  for (let round = 0; round < 4; round++) {
    for (const who of ['alice', 'bob']) {
      const ids = [];
      for (let i = 0; i < 4; i++) ids.push(await send(who));
      late.push(ids.pop()); // the last message of each chain comes after the next chain began
      for (const id of ids.reverse()) await deliver(id);
    }
    for (const id of late.splice(0)) await deliver(id);
  }
}

// libsignal 6 spoils the session it tries in vain before it finds the right one, so after the two
// sessions have crossed only one side can go on.
async function together({ start, send, deliver }) {
  await start('alice');
  await start('bob');
  const a = [await send('alice'), await send('alice')];
  const b = [await send('bob'), await send('bob')];
  await deliver(a[0]);
  await deliver(b[0]);
  await deliver(a[1]);
  await deliver(b[1]);
  for (let i = 0; i < 3; i++) await deliver(await send('bob'));
}

async function groupChat() {
  const { GroupCipher, GroupSessionBuilder, SenderKeyRecord, SenderKeyName, SenderKeyDistributionMessage } =
    await import(pathToFileURL(root + '/node_modules/baileys/lib/Signal/Group/index.js'));
  counter = 0;
  const name = new SenderKeyName('group@g.us', { id: 'alice', deviceId: 0, toString: () => 'alice.0' });
  const store = () => {
    let record = new SenderKeyRecord();
    return { loadSenderKey: async () => record, storeSenderKey: async (_name, next) => { record = next; } };
  };
  const signing = curve.generateKeyPair();
  const chainKey = bytes('chain');
  const id = 123456789;
  const sender = store();
  (await sender.loadSenderKey()).setSenderKeyState(id, 0, chainKey, { public: signing.pubKey, private: signing.privKey });
  const distribute = async () => hex((await new GroupSessionBuilder(sender).create(name)).serialize());
  const messages = [];
  const distributions = [{ before: 0, data: await distribute() }];
  for (let i = 0; i < 8; i++) {
    if (i === 5) distributions.push({ before: 5, data: await distribute() });
    const plaintext = Buffer.from(`group ${i} `.repeat(i + 1));
    messages.push({ plaintext: hex(plaintext), body: hex(await new GroupCipher(sender, name).encrypt(plaintext)) });
  }
  const member = store();
  await new GroupSessionBuilder(member).process(name, new SenderKeyDistributionMessage(null, null, null, null, Buffer.from(distributions[0].data, 'hex')));
  for (const { plaintext, body } of messages) {
    const read = await new GroupCipher(member, name).decrypt(Buffer.from(body, 'hex'));
    if (hex(read) !== plaintext) throw new Error('group message misread');
  }
  return { id, chain_key: hex(chainKey), signing_private: hex(signing.privKey), distributions, messages };
}

process.stdout.write(JSON.stringify({
  source: 'npm libsignal 6.0.0 and baileys 7.0.0-rc14; see make_libsignal_vectors.mjs',
  conversations: [
    await conversation('with one-time prekey', true, lively),
    await conversation('without one-time prekey', false, lively),
    await conversation('both start at once', true, together),
  ],
  group: await groupChat(),
}, null, 1) + '\n');
