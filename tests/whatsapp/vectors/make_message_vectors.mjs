// Makes message_vectors.json: messages encoded by Baileys' schema, and encrypted answers to messages
// that Baileys opens (votes, event responses) or that node's own HKDF and AES-GCM made (reactions,
// comments, edits: Baileys does not open those).
//
//   cd $(mktemp -d) && npm install baileys@7.0.0-rc14
//   node PATH/TO/make_message_vectors.mjs . > PATH/TO/message_vectors.json
//
// All secrets, keys and ivs come from names, so the output is the same every time.
import { createCipheriv, createHash, hkdfSync } from 'node:crypto';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const root = resolve(process.argv[2] ?? '.');
const require = createRequire(pathToFileURL(root + '/'));
const main = require.resolve('baileys');
const { proto, generateWAMessageContent } = await import(pathToFileURL(main));
const { decryptPollVote, decryptEventResponse } = await import(
  pathToFileURL(join(dirname(main), 'Utils', 'process-message.js'))
);

Date.now = () => 1700000000123;
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const bytes = (label, length = 32) => createHash('sha256').update(`zapvisor ${label}`).digest().subarray(0, length);
const encode = (message) => hex(proto.Message.encode(proto.Message.fromObject(message)).finish());

const ME = '5511999990001@s.whatsapp.net';
const PEER = '5511999990002@s.whatsapp.net';
const PEER_LID = '90000000000002@lid';
const GROUP = '120363000000000001@g.us';
const ID = '3EB0ZAPVISOR0001';
const key = { remoteJid: PEER, fromMe: true, id: ID };
const quote = { stanzaId: 'Q1', participant: PEER, quotedMessage: { conversation: 'before' } };
const file = {
  url: 'https://mmg.whatsapp.net/v/t62/1?oh=a', directPath: '/v/t62/1?oh=a', mediaKey: bytes('media key'),
  fileSha256: bytes('file'), fileEncSha256: bytes('encrypted file'), fileLength: 1234, mediaKeyTimestamp: 1700000000,
};
const secret = bytes('message secret');
const withSecret = { messageContextInfo: { messageSecret: secret } };
const upload = async () => { throw new Error('no message here uploads a file'); };
const built = async (content) => {
  const message = await generateWAMessageContent(content, { upload, userJid: ME, logger: undefined });
  if (message.messageContextInfo?.messageSecret) message.messageContextInfo.messageSecret = secret; // random else
  return hex(proto.Message.encode(message).finish());
};

const messages = {
  text: await built({ text: 'hello' }),
  quoted: encode({ extendedTextMessage: { text: 'answer @5511999990003', contextInfo: { ...quote, mentionedJid: ['5511999990003@s.whatsapp.net'], isForwarded: true, forwardingScore: 1, expiration: 86400 } } }),
  preview: encode({ extendedTextMessage: { text: 'see https://example.org', matchedText: 'https://example.org', title: 'Example', description: 'A domain' } }),
  referral: encode({ extendedTextMessage: { text: 'Hi', contextInfo: { externalAdReply: { title: 'Ad', body: 'Buy', sourceType: 'ad', sourceId: '123', sourceUrl: 'https://fb.me/x', ctwaClid: 'click', ref: 'r' } } } }),
  image: encode({ imageMessage: { ...file, mimetype: 'image/jpeg', caption: 'look', width: 640, height: 480 } }),
  view_once: encode({ viewOnceMessageV2: { message: { imageMessage: { ...file, mimetype: 'image/jpeg', viewOnce: true } } } }),
  view_once_absent: encode({ viewOnceMessageV2: { message: { messageContextInfo: {} } } }),
  video: encode({ videoMessage: { ...file, mimetype: 'video/mp4', caption: 'look', seconds: 9, width: 640, height: 480 } }),
  gif: encode({ videoMessage: { ...file, mimetype: 'video/mp4', gifPlayback: true } }),
  video_note: encode({ ptvMessage: { ...file, mimetype: 'video/mp4', seconds: 5 } }),
  audio: encode({ audioMessage: { ...file, mimetype: 'audio/mp4', seconds: 61 } }),
  voice: encode({ audioMessage: { ...file, mimetype: 'audio/ogg; codecs=opus', seconds: 3, ptt: true, waveform: bytes('wave') } }),
  document: encode({ documentWithCaptionMessage: { message: { documentMessage: { ...file, mimetype: 'application/pdf', fileName: 'a.pdf', title: 'A', pageCount: 3, caption: 'page 2' } } } }),
  sticker: encode({ stickerMessage: { ...file, mimetype: 'image/webp', isAnimated: true, width: 512, height: 512 } }),
  contact: await built({ contacts: { displayName: 'Ana', contacts: [{ displayName: 'Ana', vcard: 'BEGIN:VCARD\nFN:Ana\nEND:VCARD' }] } }),
  contacts: await built({ contacts: { displayName: '2 contacts', contacts: [{ displayName: 'Ana', vcard: 'V1' }, { displayName: 'Bo', vcard: 'V2' }] } }),
  location: await built({ location: { degreesLatitude: -23.5, degreesLongitude: -46.625, name: 'Office', address: 'Rua A, 1' } }),
  live_location: encode({ liveLocationMessage: { degreesLatitude: -23.5, degreesLongitude: -46.625, accuracyInMeters: 10, speedInMps: 1.5, caption: 'on my way', sequenceNumber: 7 } }),
  reaction: encode({ reactionMessage: { key, text: '👍', senderTimestampMs: 1700000000123 } }),
  poll: await built({ poll: { name: 'Lunch?', values: ['Pizza', 'Sushi'], selectableCount: 1, messageSecret: secret } }),
  poll_many: await built({ poll: { name: 'Lunch?', values: ['Pizza', 'Sushi'], selectableCount: 0, messageSecret: secret } }),
  event: await built({ event: { name: 'Party', description: 'at 8', startDate: new Date(1700000000000), endDate: new Date(1700003600000), isCancelled: false, messageSecret: secret, location: { degreesLatitude: 1, degreesLongitude: 2, name: 'Home' } } }),
  buttons: encode({ buttonsMessage: { contentText: 'Choose', footerText: 'foot', headerType: 1, buttons: [{ buttonId: 'b1', buttonText: { displayText: 'Yes' }, type: 1 }] } }),
  buttons_reply: await built({ buttonReply: { displayText: 'Yes', id: 'b1' }, type: 'plain' }),
  list: encode({ listMessage: { title: 'Menu', description: 'Pick one', buttonText: 'Open', listType: 1, sections: [{ title: 'S', rows: [{ title: 'Tea', description: 'hot', rowId: 'r1' }] }] } }),
  list_reply: await built({ listReply: { title: 'Tea', listType: 1, singleSelectReply: { selectedRowId: 'r1' }, description: 'hot' } }),
  template: encode({ templateMessage: { hydratedTemplate: { hydratedContentText: 'Your order', hydratedFooterText: 'foot', templateId: 't1', hydratedButtons: [{ index: 0, quickReplyButton: { displayText: 'Ok', id: 'q1' } }, { index: 1, urlButton: { displayText: 'Open', url: 'https://example.org' } }, { index: 2, callButton: { displayText: 'Call', phoneNumber: '+15550001111' } }] } } }),
  template_reply: await built({ buttonReply: { displayText: 'Ok', id: 'q1', index: 0 }, type: 'template' }),
  interactive: encode({ interactiveMessage: { header: { title: 'Offer' }, body: { text: 'Buy' }, footer: { text: 'foot' }, nativeFlowMessage: { buttons: [{ name: 'quick_reply', buttonParamsJson: '{"id":"n1"}' }] } } }),
  interactive_reply: encode({ interactiveResponseMessage: { body: { text: 'Done' }, nativeFlowResponseMessage: { name: 'menu', paramsJson: '{"id":"n1"}', version: 3 } } }),
  album: encode({ albumMessage: { expectedImageCount: 2, expectedVideoCount: 1 } }),
  album_child: encode({ imageMessage: { ...file, mimetype: 'image/jpeg' }, messageContextInfo: { messageAssociation: { associationType: 1, parentMessageKey: { remoteJid: PEER, fromMe: true, id: 'ALBUM1' } } } }),
  product: encode({ productMessage: { product: { productId: 'p1', title: 'Chair', description: 'Wood', currencyCode: 'BRL', priceAmount1000: 99000 }, businessOwnerJid: ME } }),
  order: encode({ orderMessage: { orderId: 'o1', itemCount: 2, message: '2 items', orderTitle: 'Order', sellerJid: ME, totalAmount1000: 198000, totalCurrencyCode: 'BRL', status: 1 } }),
  group_invite: await built({ groupInvite: { jid: GROUP, inviteCode: 'code', inviteExpiration: 1700000000, subject: 'Team', text: 'Join us' } }),
  payment: encode({ requestPaymentMessage: { currencyCodeIso4217: 'BRL', amount1000: 1000 } }),
  pin: await built({ pin: key, type: 1, time: 86400 }),
  keep: encode({ keepInChatMessage: { key, keepType: 1, timestampMs: 1700000000123 } }),
  revoke: await built({ delete: key }),
  revoke_admin: encode({ protocolMessage: { key: { remoteJid: GROUP, fromMe: false, id: ID, participant: PEER }, type: 0 } }),
  edit: encode({ protocolMessage: { key, type: 14, editedMessage: { extendedTextMessage: { text: 'new', contextInfo: { mentionedJid: [PEER] } } }, timestampMs: 1700000000123 } }),
  edit_wrapped: encode({ editedMessage: { message: { protocolMessage: { key, type: 14, editedMessage: { conversation: 'new' }, timestampMs: 1700000000123 } } } }),
  disappearing: await built({ disappearingMessagesInChat: 86400 }),
  call_log: encode({ callLogMesssage: { isVideo: true, callOutcome: 1, durationSecs: 0 } }),
  comment: encode({ commentMessage: { message: { conversation: 'nice' }, targetMessageKey: key } }),
  ephemeral: encode({ ephemeralMessage: { message: { extendedTextMessage: { text: 'gone soon', contextInfo: { expiration: 86400 } } } } }),
  device_sent: encode({ deviceSentMessage: { destinationJid: PEER, message: { conversation: 'from the phone' } }, ...withSecret }),
};

// ---- encrypted answers

function seal(use, plaintext, { author, sender, authenticated }) {
  const derived = hkdfSync('sha256', secret, Buffer.alloc(32), Buffer.from(`${ID}${author}${sender}${use}`), 32);
  const iv = bytes(`iv ${use} ${sender}`, 12);
  const cipher = createCipheriv('aes-256-gcm', Buffer.from(derived), iv);
  if (authenticated) cipher.setAAD(Buffer.from(`${ID}\u0000${sender}`));
  const payload = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return { encPayload: payload, encIv: iv };
}

const answers = [];
for (const [author, sender] of [[ME, PEER], [ME, PEER_LID], ['90000000000001@lid', PEER_LID]]) {
  const pair = { author, sender, authenticated: true };
  const hashes = ['Sushi'].map((name) => createHash('sha256').update(name).digest());
  const vote = seal('Poll Vote', proto.Message.PollVoteMessage.encode({ selectedOptions: hashes }).finish(), pair);
  const opened = decryptPollVote(vote, { pollCreatorJid: author, pollMsgId: ID, pollEncKey: secret, voterJid: sender });
  if (hex(opened.selectedOptions[0]) !== hex(hashes[0])) throw new Error('Baileys does not open the vote');
  answers.push({ use: 'Poll Vote', author, sender, parent: messages.poll, message: encode({ pollUpdateMessage: { pollCreationMessageKey: key, vote, senderTimestampMs: 1700000000123 } }) });

  const going = proto.Message.EventResponseMessage.encode({ response: 1, timestampMs: 1700000000123, extraGuestCount: 2 }).finish();
  const response = seal('Event Response', going, pair);
  const read = decryptEventResponse(response, { eventCreatorJid: author, eventMsgId: ID, eventEncKey: secret, responderJid: sender });
  if (read.response !== 1) throw new Error('Baileys does not open the response');
  answers.push({ use: 'Event Response', author, sender, parent: messages.event, message: encode({ encEventResponseMessage: { eventCreationMessageKey: key, ...response } }) });
}
const parent = encode({ conversation: 'before', ...withSecret });
const bare = { author: ME, sender: PEER, authenticated: false };
const reaction = proto.Message.ReactionMessage.encode({ text: '👍', senderTimestampMs: 1700000000123 }).finish();
answers.push({ use: 'Enc Reaction', ...bare, parent, message: encode({ encReactionMessage: { targetMessageKey: key, ...seal('Enc Reaction', reaction, bare) } }) });
const comment = proto.Message.encode({ conversation: 'nice' }).finish();
answers.push({ use: 'Enc Comment', ...bare, parent, message: encode({ encCommentMessage: { targetMessageKey: key, ...seal('Enc Comment', comment, bare) } }) });
const own = { author: ME, sender: ME, authenticated: false };
const edited = proto.Message.encode({ conversation: 'after' }).finish();
answers.push({ use: 'Message Edit', ...own, parent, message: encode({ secretEncryptedMessage: { targetMessageKey: key, ...seal('Message Edit', edited, own), secretEncType: 2 } }) });
const event = proto.Message.EventMessage.encode({ name: 'Party', startTime: 1700007200, isCanceled: true }).finish();
answers.push({ use: 'Event Edit', ...own, parent: messages.event, message: encode({ secretEncryptedMessage: { targetMessageKey: key, ...seal('Event Edit', event, own), secretEncType: 1 } }) });

const source = 'npm baileys 7.0.0-rc14 and node:crypto; see make_message_vectors.mjs';
console.log(JSON.stringify({ source, id: ID, secret: hex(secret), messages, answers }, null, 1));
