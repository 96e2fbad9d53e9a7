// Makes media_vectors.json: files encrypted by Baileys, and what it asks of the phone and reads of
// its answers when a file is gone from the servers.
//
//   cd $(mktemp -d) && npm install baileys@7.0.0-rc14
//   node PATH/TO/make_media_vectors.mjs . > PATH/TO/media_vectors.json
//
// All randomness comes from a counter, so the output is the same every time.
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { readFile, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

let counter = 0;
crypto.randomBytes = (size) =>
  Buffer.from(crypto.hkdfSync('sha256', `zapvisor media ${counter++}`, '', '', size));
syncBuiltinESMExports();

const root = resolve(process.argv[2] ?? '.', 'node_modules/baileys');
const load = (path) => import(pathToFileURL(`${root}/${path}`).href);
const media = await load('lib/Utils/messages-media.js');
const { aesEncryptGCM, hkdf } = await load('lib/Utils/crypto.js');
const { proto } = await load('WAProto/index.js');
const hex = (bytes) => Buffer.from(bytes).toString('hex');

// How this project calls a kind of file, and how Baileys does.
const kinds = {
  image: 'image',
  sticker: 'sticker',
  video: 'video',
  gif: 'gif',
  video_note: 'ptv',
  audio: 'audio',
  voice: 'ptt',
  document: 'document',
  history: 'md-msg-hist',
  app_state: 'md-app-state',
  link_thumbnail: 'thumbnail-link',
};

const keys = [];
for (const [kind, name] of Object.entries(kinds)) {
  const mediaKey = crypto.randomBytes(32);
  const { iv, cipherKey, macKey } = await media.getMediaKeys(mediaKey, name);
  keys.push({ kind, media_key: hex(mediaKey), iv: hex(iv), cipher: hex(cipherKey), mac: hex(macKey) });
}

const files = [];
for (const [kind, size] of [['image', 0], ['image', 1], ['video', 15], ['voice', 16], ['document', 17], ['history', 1000]]) {
  const plaintext = Buffer.from(Array.from({ length: size }, (_, at) => at % 251));
  const made = await media.encryptedStream(plaintext, kinds[kind]);
  files.push({
    kind,
    length: made.fileLength,
    media_key: hex(made.mediaKey),
    sha256: hex(made.fileSha256),
    enc_sha256: hex(made.fileEncSha256),
    token: media.encodeBase64EncodedStringForUpload(made.fileEncSha256.toString('base64')),
    file: hex(await readFile(made.encFilePath)),
  });
  await rm(made.encFilePath);
}

const describe = (node) => ({
  tag: node.tag,
  attrs: Object.fromEntries(Object.entries(node.attrs).filter(([, value]) => value !== undefined)),
  content: Array.isArray(node.content) ? node.content.map(describe) : node.content && hex(node.content),
});

const requests = [];
for (const key of [
  { id: '3EB0AAAA', remoteJid: '15550001111@s.whatsapp.net', fromMe: false },
  { id: '3EB0BBBB', remoteJid: '120363000000000001@g.us', fromMe: false, participant: '15550002222@s.whatsapp.net' },
  { id: '3EB0CCCC', remoteJid: '100000000000001@lid', fromMe: true },
]) {
  const mediaKey = crypto.randomBytes(32);
  const node = media.encryptMediaRetryRequest(key, mediaKey, '15550009999:7@s.whatsapp.net');
  requests.push({ media_key: hex(mediaKey), node: describe(node) });
}

const answers = [];
const { ResultType } = proto.MediaRetryNotification;
for (const fields of [
  { result: ResultType.SUCCESS, directPath: '/v/t62.7118-24/again.enc?ccb=11-4' },
  { result: ResultType.NOT_FOUND },
  { result: ResultType.DECRYPTION_ERROR },
  { result: ResultType.GENERAL_ERROR },
]) {
  const id = '3EB0DDDD';
  const mediaKey = crypto.randomBytes(32);
  const iv = crypto.randomBytes(12);
  const plaintext = proto.MediaRetryNotification.encode({ stanzaId: id, ...fields }).finish();
  const retryKey = hkdf(mediaKey, 32, { info: 'WhatsApp Media Retry Notification' });
  const ciphertext = aesEncryptGCM(plaintext, retryKey, iv, Buffer.from(id));
  const read = media.decryptMediaRetryData({ ciphertext, iv }, mediaKey, id);
  answers.push({
    id,
    media_key: hex(mediaKey),
    iv: hex(iv),
    box: hex(ciphertext),
    result: ResultType[read.result].toLowerCase(),
    direct_path: read.directPath ?? '',
  });
}

console.log(JSON.stringify({ keys, files, requests, answers }, null, 1));
