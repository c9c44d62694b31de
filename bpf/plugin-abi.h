/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The records of plugins: the question that one is asked, and its answer, as they lie in its memory. No program reads them.
 *
 * Modules are compiled with these offsets, bits and numbers: none ever moves, and a change that is more than an addition is another
 * version of the plugin ABI (engine/plugin-runtime/abi.ts). Conventions, and where it is generated to, are those of abi.h.
 */
#ifndef SLUICE_PLUGIN_ABI_H
#define SLUICE_PLUGIN_ABI_H

#include <linux/types.h>

/*
 * The fields that a verdict may depend on: bits of plugin_context.fields (filled in) and plugin_result.fields (read). A manifest
 * names those that it wants; the host writes no others. Their order here is that of the names in engine/plugin-runtime/fields.ts.
 */
enum plugin_field {
	PLUGIN_FIELD_SOURCE_IDENTITY = 1 << 0,
	PLUGIN_FIELD_SOURCE_NAMESPACE = 1 << 1,
	PLUGIN_FIELD_SOURCE_LABELS = 1 << 2,
	PLUGIN_FIELD_SOURCE_SERVICE_ACCOUNT = 1 << 3,
	PLUGIN_FIELD_SOURCE_POD = 1 << 4,
	PLUGIN_FIELD_SOURCE_ADDRESS = 1 << 5,
	PLUGIN_FIELD_SOURCE_PORT = 1 << 6,
	PLUGIN_FIELD_DESTINATION_IDENTITY = 1 << 7,
	PLUGIN_FIELD_DESTINATION_NAMESPACE = 1 << 8,
	PLUGIN_FIELD_DESTINATION_LABELS = 1 << 9,
	PLUGIN_FIELD_DESTINATION_SERVICE = 1 << 10,
	PLUGIN_FIELD_DESTINATION_POD = 1 << 11,
	PLUGIN_FIELD_DESTINATION_ADDRESS = 1 << 12,
	PLUGIN_FIELD_DESTINATION_PORT = 1 << 13,
	PLUGIN_FIELD_PROTOCOL = 1 << 14,
	PLUGIN_FIELD_DIRECTION = 1 << 15,
	PLUGIN_FIELD_ESTABLISHED = 1 << 16,
	PLUGIN_FIELD_TIME = 1 << 17,
	PLUGIN_FIELD_FLOW = 1 << 18,
	PLUGIN_FIELD_TAG = 1 << 19,
	PLUGIN_FIELD_METHOD = 1 << 20,
	PLUGIN_FIELD_HOST = 1 << 21,
	PLUGIN_FIELD_PATH = 1 << 22,
	PLUGIN_FIELD_QUERY = 1 << 23,
	PLUGIN_FIELD_SERVER_NAME = 1 << 24,
	PLUGIN_FIELD_DNS_NAME = 1 << 25,
	PLUGIN_FIELD_HEADER = 1 << 26,	/* one that the manifest names */
	PLUGIN_FIELD_COOKIE = 1 << 27,
	PLUGIN_FIELD_HOST_STATE = 1 << 28,	/* a counter or the clock: the host sees it, and sets it itself */
	PLUGIN_FIELD_APPLICATION_PROTOCOLS = 1 << 29,	/* of TLS (ALPN) */
	PLUGIN_FIELD_DNS_ANSWER = 1 << 30,	/* type, TTL and addresses */
};

/* Texts of the context record: index into plugin_context.slots. */
enum plugin_slot {
	PLUGIN_SLOT_METHOD = 0,
	PLUGIN_SLOT_HOST = 1,
	PLUGIN_SLOT_PATH = 2,
	PLUGIN_SLOT_QUERY = 3,
	PLUGIN_SLOT_SERVER_NAME = 4,
	PLUGIN_SLOT_DNS_NAME = 5,
	PLUGIN_SLOT_SOURCE_NAMESPACE = 6,
	PLUGIN_SLOT_SOURCE_POD = 7,
	PLUGIN_SLOT_SOURCE_LABELS = 8,	/* one "key=value" a line */
	PLUGIN_SLOT_DESTINATION_NAMESPACE = 9,
	PLUGIN_SLOT_DESTINATION_POD = 10,
	PLUGIN_SLOT_DESTINATION_LABELS = 11,
	PLUGIN_SLOT_DESTINATION_SERVICE = 12,
	PLUGIN_SLOT_SOURCE_SERVICE_ACCOUNT = 13,
	PLUGIN_SLOT_APPLICATION_PROTOCOLS = 14,	/* one a line, as the client offers them */
	PLUGIN_SLOT_DNS_ADDRESSES = 15,	/* one a line */
	PLUGIN_SLOT_MAX = 16,
};

enum plugin_context_flag {
	PLUGIN_CONTEXT_ESTABLISHED = 1,
	PLUGIN_CONTEXT_ENCRYPTED_HELLO = 2,	/* the true server name may be another one, encrypted (ECH) */
};

/* The question that a plugin is asked: fixed head, slots, headers, then the texts' bytes (UTF-8). Ports in host order. 152 bytes. */
struct plugin_context {
	__u8 source[16];
	__u8 destination[16];
	__u64 time_ms;		/* since an arbitrary start, never backwards */
	__u64 flow;		/* equal for packets of one connection */
	__u32 source_identity;
	__u32 destination_identity;
	__u32 tag;		/* rule that asked */
	__u32 fields;		/* enum plugin_field bits that are filled in */
	__u16 source_port;
	__u16 destination_port;
	__u8 hook;		/* enum context */
	__u8 protocol;
	__u8 direction;
	__u8 flags;		/* enum plugin_context_flag */
	__u32 slots[16];	/* offset | length << 16; 0 = absent */
	__u32 headers;		/* how many struct plugin_header follow this one */
	__u32 cookies;		/* how many more follow those, for cookies */
	__u32 dns_ttl_s;	/* the least of the answer's records */
	__u16 dns_type;		/* of the question: 1 A, 28 AAAA, ... */
	__u16 pad;
};
_Static_assert(sizeof(struct plugin_context) == 152, "plugin_context changed size");

/* A header or cookie of the request, of those that the manifest names. Header names are in lower case. 12 bytes. */
struct plugin_header {
	__u32 hash;		/* FNV-1a, 32 bits, of the name */
	__u32 name;		/* offset | length << 16, as slots have it */
	__u32 value;
};
_Static_assert(sizeof(struct plugin_header) == 12, "plugin_header changed size");

/* The rest of a plugin's answer, beside its verdict word. 16 bytes. */
struct plugin_result {
	__u32 fields;		/* enum plugin_field bits that the evaluation read */
	__u32 route;		/* with PLUGIN_ACTION_ROUTE, which of the manifest's routes, from 1; of a denied DNS answer, the response code in its place (RFC 1035, 4.1.1), 0 = REFUSED */
	__u32 message;		/* offset in guest memory, UTF-8; 0 = none */
	__u32 message_length;
};
_Static_assert(sizeof(struct plugin_result) == 16, "plugin_result changed size");

/* The action that a plugin answers with, in its verdict word. */
enum plugin_action {
	PLUGIN_ACTION_NEXT = 0,		/* no opinion: as if the plugin had not been asked */
	PLUGIN_ACTION_ALLOW = 1,
	PLUGIN_ACTION_DENY = 2,
	PLUGIN_ACTION_ROUTE = 3,	/* allow, and send the request to a backend set; the http hook only */
	PLUGIN_ACTION_AUDIT = 4,	/* allow, and show it with its reason */
	PLUGIN_ACTION_MAX = 5,
};

/* Verdict word: action 0-3, scope 4-7, TTL 8-19 (mantissa 8 bits, exponent 4 bits, unit 10 ms), reason 20-31 (of the manifest's, from 1). */
enum verdict_word {
	VERDICT_WORD_SCOPE_SHIFT = 4,
	VERDICT_WORD_TTL_SHIFT = 8,
	VERDICT_WORD_TTL_EXPONENT_SHIFT = 16,
	VERDICT_WORD_REASON_SHIFT = 20,
	VERDICT_WORD_TTL_UNIT_MS = 10,
};

#endif
