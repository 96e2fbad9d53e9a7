// Makes appstate_vectors.json: collections of app state written by Baileys, patch by patch, and
// what it exchanges with its phone about keys.
//
//   cd $(mktemp -d) && npm install baileys@7.0.0-rc14
//   node PATH/TO/make_appstate_vectors.mjs . > PATH/TO/appstate_vectors.json
//
// Randomness and time come from counters, so the output is the same every time. Every patch and
// snapshot was read back by Baileys with all its MAC checks on.
import crypto, { createHmac } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { gzipSync } from 'node:zlib';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

let counter = 0;
crypto.randomBytes = (size) =>
  Buffer.from(crypto.hkdfSync('sha256', `zapvisor app state ${counter++}`, '', '', size));
syncBuiltinESMExports();
let clock = 1790000000000;
Date.now = () => (clock += 1000);

const root = resolve(process.argv[2] ?? '.', 'node_modules');
const load = (path) => import(pathToFileURL(`${root}/${path}`).href);
const chat = await load('baileys/lib/Utils/chat-utils.js');
const { LT_HASH_ANTI_TAMPERING } = await load('baileys/lib/Utils/lt-hash.js');
const { proto } = await load('baileys/WAProto/index.js');
const { expandAppStateKeys } = await load('whatsapp-rust-bridge/dist/index.js');
const { default: protobuf } = await load('protobufjs/minimal.js');
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const { SET, REMOVE } = proto.SyncdMutation.SyncdOperation;

const secrets = { '000000000001': crypto.randomBytes(32), '000000000002': crypto.randomBytes(32) };
const keyOf = async (base64) => {
  const keyData = secrets[Buffer.from(base64, 'base64').toString('hex')];
  return keyData && { keyData };
};
const derived = (id) => {
  const keys = expandAppStateKeys(secrets[id]);
  return [keys.indexKey, keys.valueEncryptionKey, keys.valueMacKey, keys.snapshotMacKey, keys.patchMacKey];
};
const warnings = [];
const logger = { trace() {}, debug() {}, warn: (...args) => warnings.push(args) };

// Reads patches as Baileys does; throws unless every MAC is right.
async function read(name, patches, state) {
  const { state: after } = await chat.decodePatches(
    name, patches.map((patch) => proto.SyncdPatch.decode(patch)), state, keyOf, {}, undefined, logger, true,
  );
  if (warnings.length) throw new Error(JSON.stringify(warnings));
  return after;
}

const pn = '15550001111@s.whatsapp.net';
const lid = '100000000000001@lid';
const group = '120363000000000001@g.us';
const last = [{ key: { remoteJid: pn, id: 'AABB', fromMe: false }, messageTimestamp: 1789999999 }];
const changes = [
  [{ contact: { fullName: 'Ana Souza ✨', firstName: 'Ana', lidJid: lid, saveOnPrimaryAddressbook: true } }, pn],
  [{ pushNameSetting: 'Equipe "Vendas"' }, ''],
  [{ mute: 1790009999000 }, group],
  [{ mute: null }, group],
  [{ archive: true, lastMessages: last }, pn],
  [{ archive: false, lastMessages: last }, pn],
  [{ pin: true }, pn],
  [{ pin: false }, pn],
  [{ markRead: true, lastMessages: last }, pn],
  [{ markRead: false, lastMessages: last }, pn],
  [{ star: { messages: [{ id: 'AABB', fromMe: false }], star: true } }, pn],
  [{ clear: true, lastMessages: last }, pn],
  [{ delete: true, lastMessages: last }, pn],
  [{ deleteForMe: { key: { remoteJid: pn, id: 'AABB', fromMe: false }, timestamp: 1789999999, deleteMedia: true } }, pn],
  [{ addLabel: { id: '7', name: 'Novo cliente', color: 3, deleted: false } }, ''],
  [{ addChatLabel: { labelId: '7' } }, pn],
  [{ removeChatLabel: { labelId: '7' } }, pn],
  [{ addMessageLabel: { labelId: '7', messageId: 'AABB' } }, pn],
  [{ removeMessageLabel: { labelId: '7', messageId: 'AABB' } }, pn],
  [{ quickReply: { shortcut: 'oi', message: 'Olá!', timestamp: '1790000000' } }, ''],
  [{ contact: null }, pn],
];

// One patch for each change, every collection on its own; the second half under the other key.
const states = {};
const written = {}; // collection -> index MAC (hex) -> record
const patches = [];
for (const [position, [change, jid]] of changes.entries()) {
  const action = chat.chatModificationToAppPatch(change, jid);
  const keyId = position < 10 || position === changes.length - 1 ? '000000000001' : '000000000002';
  const before = states[action.type] ?? chat.newLTHashState();
  const { patch } = await chat.encodeSyncdPatch(action, Buffer.from(keyId, 'hex').toString('base64'), before, keyOf);
  const bare = proto.SyncdPatch.encode(patch).finish();
  patch.version = { version: before.version + 1 };
  const after = await read(action.type, [proto.SyncdPatch.encode(patch).finish()], before);
  const { record } = patch.mutations[0];
  patches.push({
    collection: action.type,
    key: keyId,
    operation: action.operation,
    index: action.index,
    value: hex(proto.SyncActionValue.encode(proto.SyncActionValue.fromObject(action.syncAction)).finish()),
    action_version: action.apiVersion,
    iv: hex(record.value.blob.subarray(0, 16)),
    patch: hex(bare),
    version: after.version,
    hash: hex(after.hash),
  });
  const records = (written[action.type] ??= {});
  if (action.operation === REMOVE) delete records[hex(record.index.blob)];
  else records[hex(record.index.blob)] = record;
  states[action.type] = after;
}

// Snapshots of what is there now.
const mac = (key, ...parts) => createHmac('sha256', key).update(Buffer.concat(parts.map((p) => Buffer.from(p)))).digest();
const be8 = (number) => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(BigInt(number));
  return buffer;
};
const snapshots = [];
for (const [name, state] of Object.entries(states)) {
  const keyId = '000000000002';
  const snapshot = proto.SyncdSnapshot.encode({
    version: { version: state.version },
    records: Object.values(written[name]),
    mac: mac(derived(keyId)[3], state.hash, be8(state.version), name),
    keyId: { id: Buffer.from(keyId, 'hex') },
  }).finish();
  const back = await chat.decodeSyncdSnapshot(name, proto.SyncdSnapshot.decode(snapshot), keyOf, undefined, true, logger);
  if (warnings.length || hex(back.state.hash) !== hex(state.hash)) throw new Error(`snapshot of ${name}`);
  snapshots.push({ collection: name, snapshot: hex(snapshot), version: state.version, hash: hex(state.hash) });
}

// A patch that writes one index twice, writes and removes another, and removes an unknown one.
const name = 'regular_low';
const keyId = '000000000001';
const base64Key = Buffer.from(keyId, 'hex').toString('base64');
const before = states[name];
const mutations = [];
for (const [pinned, jid, operation] of [
  [true, pn, SET], [false, pn, SET], [true, group, SET], [true, group, REMOVE], [true, lid, REMOVE],
]) {
  const action = { ...chat.chatModificationToAppPatch({ pin: pinned }, jid), operation };
  const { patch } = await chat.encodeSyncdPatch(action, base64Key, chat.newLTHashState(), keyOf);
  mutations.push(patch.mutations[0]);
}
const generator = chat.makeLtHashGenerator(before);
for (const { operation, record } of mutations) {
  generator.mix({ indexMac: record.index.blob, valueMac: record.value.blob.slice(-32), operation });
}
const { hash } = generator.finish();
const version = before.version + 1;
const snapshotMac = mac(derived(keyId)[3], hash, be8(version), name);
const valueMacs = mutations.map(({ record }) => record.value.blob.slice(-32));
const whole = {
  version: { version },
  mutations,
  snapshotMac,
  patchMac: mac(derived(keyId)[4], snapshotMac, ...valueMacs, be8(version), name),
  keyId: { id: Buffer.from(keyId, 'hex') },
};
const multiple = proto.SyncdPatch.encode(whole).finish();
await read(name, [multiple], before);
const external = proto.SyncdPatch.encode({
  ...whole, mutations: [], externalMutations: { mediaKey: Buffer.alloc(32, 7), directPath: '/v/t1?x=1', fileSizeBytes: 9 },
}).finish();
const blob = proto.SyncdMutations.encode({ mutations }).finish();

// Additions and subtractions alone.
const members = [1, 2, 3, 4].map(() => crypto.randomBytes(32));
const [first, second, third, stranger] = members;
const sum = Buffer.from(LT_HASH_ANTI_TAMPERING.subtractThenAdd(Buffer.alloc(128), [], [first, second, third]));
const changed = Buffer.from(LT_HASH_ANTI_TAMPERING.subtractThenAdd(sum, [second, stranger], [first]));

// What goes between the phone and the device.
const id = (text) => ({ keyId: Buffer.from(text, 'hex') });
const { Type } = proto.Message.ProtocolMessage;
const keys = Object.entries(secrets).map(([text, keyData], at) => ({
  keyId: id(text),
  keyData: { keyData, fingerprint: { rawId: 5, currentIndex: 1, deviceIndexes: [0, 1] }, timestamp: 1790000000000 + at },
}));
const message = (fields) => hex(proto.Message.encode({ protocolMessage: fields }).finish());
// Baileys has no schema of what the phone sends in the end; its field numbers are 1 version,
// 2 collection, 3 records (1 value, 2 key id, 3 MAC), 4 hash.
const record = new protobuf.Writer();
record.uint32(10).bytes(proto.SyncActionData.encode({
  index: Buffer.from('["pin_v1","15550001111@s.whatsapp.net"]'),
  value: { timestamp: 5, pinAction: { pinned: true } },
  version: 5,
}).finish());
record.uint32(18).bytes(Buffer.from('000000000001', 'hex')).uint32(26).bytes(Buffer.alloc(32, 3));
const recovery = new protobuf.Writer()
  .uint32(10).bytes(proto.SyncdVersion.encode({ version: 9 }).finish())
  .uint32(18).string('regular_low')
  .uint32(26).bytes(record.finish())
  .uint32(34).bytes(Buffer.alloc(128, 4))
  .finish();
const kind = proto.Message.PeerDataOperationRequestType.COMPANION_SYNCD_SNAPSHOT_FATAL_RECOVERY;
const response = (bytes, isCompressed) => message({
  type: Type.PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE,
  peerDataOperationRequestResponseMessage: {
    peerDataOperationRequestType: kind,
    stanzaId: 'REQUEST1',
    peerDataOperationResult: [{ syncdSnapshotFatalRecoveryResponse: { collectionSnapshot: bytes, isCompressed } }],
  },
});

console.log(JSON.stringify({
  source: 'baileys 7.0.0-rc14, make_appstate_vectors.mjs',
  keys: Object.fromEntries(Object.keys(secrets).map((each) => [
    each, { secret: hex(secrets[each]), derived: derived(each).map(hex) },
  ])),
  lthash: { members: members.map(hex), sum: hex(sum), changed: hex(changed) },
  patches,
  snapshots,
  multiple: { collection: name, patch: hex(multiple), external: hex(external), blob: hex(blob), version, hash: hex(hash) },
  messages: {
    share: message({ type: Type.APP_STATE_SYNC_KEY_SHARE, appStateSyncKeyShare: { keys } }),
    request: message({
      type: Type.APP_STATE_SYNC_KEY_REQUEST,
      appStateSyncKeyRequest: { keyIds: Object.keys(secrets).map(id) },
    }),
    recovery_request: message({
      type: Type.PEER_DATA_OPERATION_REQUEST_MESSAGE,
      peerDataOperationRequestMessage: {
        peerDataOperationRequestType: kind,
        syncdCollectionFatalRecoveryRequest: { collectionName: 'regular_low', timestamp: 1790000000 },
      },
    }),
    recovery: response(recovery, false),
    recovery_gzip: response(gzipSync(recovery), true),
  },
}, null, 1));
