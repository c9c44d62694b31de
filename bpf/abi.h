/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The contract: every struct and enum that crosses a boundary between kernel, native library and engine; plugin-abi.h has those of plugins.
 *
 * TypeScript codecs and AssemblyScript views are generated from the BTF of this file (bpf/codegen). Addresses are
 * 16 bytes, IPv4 as ::ffff:a.b.c.d. __be16 and __be32 are in network order, everything else in host order; _ns is
 * bpf_ktime_get_ns() time. A change of layout bumps ABI_VERSION.
 */
#ifndef SLUICE_ABI_H
#define SLUICE_ABI_H

#include <linux/types.h>

enum abi {
	ABI_VERSION = 9,
	ABI_PLUGINS_MAX = 256,		/* plugin ids 1..255; 0 means "no plugin" */
	ABI_ROUTES = 253,		/* the plugin id of HTTP routes that name no plugin: the engine's proxy goes by them */
	ABI_PIECES = 254,		/* the plugin id of DNS messages in pieces: the engine puts them together */
	ABI_SERVER_NAMES = 255,		/* the plugin id of rules with a list of server names: the engine itself answers for it */
	ABI_PORT_PREFIX_BITS = 16,	/* a port range is a set of prefixes of a 16-bit number */
	ABI_ASK_PACKET_MAX = 65536,	/* the largest GSO packet with its link header that can be held */
	ABI_PORTS_NEAR = 2,		/* ranges of ports in the policy entry itself: DNS needs two, most rules one */
	ABI_NAME_BYTES = 256,		/* a domain name in wire format, root included, is 255 at most (RFC 1035, 2.3.4) */
	ABI_ADDRESS_PATTERNS = 4,	/* patterns under which one endpoint knows one address */
};

/* Of the endpoint, never of a network device. */
enum direction {
	DIRECTION_INGRESS = 0,
	DIRECTION_EGRESS = 1,
};

/* Identities below 256 are reserved; the rest are hashes of label sets. */
enum identity {
	IDENTITY_ANY = 0,	/* only in policy_key: the entry for peers that have none of their own */
	IDENTITY_WORLD = 1,	/* an address that no pod and no listed network has */
};

/* Rule sets below 256 are reserved; the rest are hashes of the policies in them. */
enum rule_set {
	RULE_SET_NONE = 0,	/* nothing isolates or tags */
	RULE_SET_CLOSED = 1,	/* never has an entry: an endpoint whose own could not be written */
};

/* Endpoints are interface indexes, and above this the cgroups that are endpoints. */
enum endpoint_id {
	ENDPOINT_ID_CGROUP = 0x40000000,
};

enum action {
	ACTION_DENY = 0,	/* zero, so that an empty rule is closed */
	ACTION_ALLOW = 1,
	ACTION_ASK = 2,
};

/* The part of a tagged flow that its plugin is told: how much of the conversation it sees. */
enum context {
	CONTEXT_CONNECT = 0,
	CONTEXT_DNS = 1,
	CONTEXT_TLS = 2,
	CONTEXT_HTTP = 3,
};

enum verdict {
	VERDICT_NEXT = 0,	/* no opinion; the next evaluator decides */
	VERDICT_ALLOW = 1,
	VERDICT_DENY = 2,
	VERDICT_ROUTE = 3,	/* allow, and send the connection to a backend set; of the http context only */
};

/* Which later packets a verdict answers. A bit each, so that a plugin's scopes in use fit a mask. */
enum scope {
	SCOPE_NONE = 0,		/* this connection only */
	SCOPE_FLOW = 1,		/* same addresses and both ports */
	SCOPE_ADDRESS = 2,	/* same addresses and destination port */
	SCOPE_IDENTITY = 4,	/* same identities and destination port */
};

/* Why a packet passed, dropped or failed: one number per cause. A retired number is never reused. */
enum reason {
	REASON_PASS_NOT_IP = 0,
	REASON_PASS_NEIGHBOR = 1,	/* IPv6 neighbour discovery */
	REASON_PASS_NOT_ISOLATED = 2,
	REASON_PASS_ESTABLISHED = 3,
	REASON_PASS_REPLY = 4,
	REASON_PASS_NODE = 5,
	REASON_PASS_POLICY = 6,
	REASON_PASS_VERDICT = 7,
	REASON_PASS_FAILURE_POLICY = 8,
	REASON_PASS_FRAGMENT = 9,	/* a later fragment of a datagram whose first one passed */
	REASON_PASS_MALFORMED = 10,	/* of an endpoint that nothing isolates */
	REASON_PASS_RELATED = 11,	/* an ICMP error about a connection that is allowed */
	REASON_PASS_SELF = 12,		/* an endpoint that talks to its own address */
	REASON_PASS_LOOPBACK = 13,
	REASON_PASS_NAME_QUERY = 14,	/* to a trusted resolver, about a name that policy has a rule for */
	REASON_PASS_NAME_ANSWER = 15,	/* to such a query */
	REASON_HELD = 16,
	REASON_PASS_PROXY = 17,		/* to the engine's proxy, which decides request by request */
	REASON_PASS_ROUTED = 18,	/* to a backend in place of the address that it was sent to, or back */
	REASON_PASS_FORWARDED = 19,	/* of the engine's proxy, to who is no endpoint of this node */
	REASON_DROP_POLICY = 32,
	REASON_DROP_VERDICT = 33,
	REASON_DROP_FAILURE_POLICY = 34,
	REASON_DROP_MALFORMED = 35,
	REASON_DROP_FRAGMENT = 36,	/* a later fragment without a first one that passed */
	REASON_DROP_SPOOFED = 37,	/* an endpoint sent from an address that is not its own */
	REASON_DROP_NO_ENDPOINT = 38,
	REASON_DROP_NAME = 39,		/* a query about a name that policy has no rule for; the kernel answers it itself */
	REASON_DROP_QUIC = 40,		/* a datagram where the hello of TLS is to be read: over QUIC nothing is read */
	REASON_DROP_EARLY_DATA = 41,	/* data with a SYN, or before its answer, where what is said first is to be read */
	REASON_DROP_UNREADABLE = 42,	/* an answer that a dns plugin is to see, and that cannot be read whole */
	REASON_DROP_NOT_PROXIED = 43,	/* of a connection that was there before a rule about its requests, or that nobody knows */
	REASON_DROP_NO_BACKEND = 44,	/* a backend set is empty, or policy allows none of it */
	REASON_DROP_NOT_TRANSLATED = 45,	/* of a connection to a Service that somebody else gave a backend: policy does not allow all that it may have */
	REASON_DROP_PORT_TAKEN = 46,	/* each backend that was tried has a connection with the endpoint's port already */
	REASON_FAIL_ENGINE_ABSENT = 48,
	REASON_FAIL_ENGINE_STALE = 49,
	REASON_FAIL_RING_FULL = 50,
	REASON_FAIL_PLUGIN_OFF = 51,
	REASON_FAIL_CONNTRACK_FULL = 52,
	REASON_FAIL_RECORD_LOST = 53,
	REASON_FAIL_HOLD = 54,		/* the packet could not be copied: too large, or not readable */
	REASON_FAIL_CONNECTION_SHARE = 55,	/* the endpoint has its share of tracked connections: this one may be forgotten */
	REASON_FAIL_CANNOT_HOLD = 56,	/* what a cgroup's processes send cannot be held */
	REASON_FAIL_OPENING_LOST = 57,	/* a connection without an answer so far made room for another */
	REASON_FAIL_PROXY_ABSENT = 58,	/* nobody reads requests: the engine's proxy is gone or does not answer */
	REASON_FAIL_BUSY = 59,		/* so many processes' packets were interrupted on this CPU that no record was left for another */
	REASON_FAIL_STAGE = 60,		/* the next stage of the chain was not there */
	REASON_FAIL_RECORD_SHARE = 61,	/* an endpoint's records of one reason were too many in a second: this one is only counted */
	/* The outcomes of DNS messages of endpoints under name policy, beside what the packet was counted as. */
	REASON_DNS_QUERY = 64,		/* noted, so that its answer can teach */
	REASON_DNS_LEARNED = 65,	/* an answer, of which every address is known now */
	REASON_DNS_ADDRESS = 66,	/* an address that was not known before */
	REASON_DNS_OUTSIDE = 67,	/* an answer about a name that no pattern matches */
	REASON_DNS_NEGATIVE = 68,	/* an answer that says that there is nothing, or an error */
	REASON_DNS_TRUNCATED = 69,	/* an answer that says it is not whole: it comes again over TCP */
	REASON_DNS_UNSOLICITED = 70,	/* an answer to no query of this endpoint, or much too late */
	REASON_DNS_MISMATCH = 71,	/* an answer about another name than the query */
	REASON_DNS_UNTRUSTED = 72,	/* an answer of a resolver that is not trusted */
	REASON_DNS_HEADER = 73,		/* not one question, or another operation */
	REASON_DNS_SHORT = 74,		/* ends before what it says it holds, or is a fragment */
	REASON_DNS_LARGE = 75,		/* larger than the parser takes */
	REASON_DNS_SEGMENTED = 76,	/* over TCP, and not a whole message in one segment */
	REASON_DNS_LABEL = 77,		/* a label of a type that nobody uses */
	REASON_DNS_NAME_LONG = 78,
	REASON_DNS_POINTER = 79,	/* a compression pointer that does not lead back */
	REASON_DNS_DATA = 80,		/* an address of the wrong length */
	REASON_DNS_RECORDS = 81,	/* more records than the parser takes */
	REASON_DNS_COLLISION = 82,	/* a name whose hash is a pattern's, and that is not the pattern */
	REASON_DNS_BUSY = 83,		/* every buffer of this CPU is in use */
	REASON_DNS_QUERY_SHARE = 84,	/* the endpoint has too many queries without an answer: not noted */
	REASON_DNS_ADDRESS_SHARE = 85,	/* the endpoint knows as many addresses as it may: not learned */
	REASON_DNS_FULL = 86,		/* a map had no room: not learned */
	REASON_DNS_PATTERNS = 87,	/* an address under more patterns than it can have: not learned for this one */
	REASON_DNS_ENCRYPTED = 88,	/* a connection to the port of DNS over TLS or QUIC began: its names are nobody's to see */
	REASON_MAX = 96,
};

enum endpoint_flag {
	ENDPOINT_NAMES = 1,	/* a rule set for what it sends has rules about domain names */
	ENDPOINT_SERVICES = 2,	/* policy is about what it sends: what goes to a Service is given a backend here, and judged by that */
};

/* The rule sets and settings that the packets of an endpoint are judged by. Key: its id. 72 bytes. */
struct endpoint {
	__u64 confirm_by_ns;	/* from then on confirmed holds in place of rule_sets; 0 = nothing is to be confirmed */
	__u8 ipv4[16];		/* all zero when the pod has no address of that family */
	__u8 ipv6[16];
	__u32 identity;
	__u32 flags;		/* enum endpoint_flag */
	__u32 rule_sets[2];	/* by enum direction; RULE_SET_NONE = nothing isolates or tags that direction */
	__u32 confirmed[2];
	__u32 dns_plugin;	/* asked about every DNS answer; 0 = none */
	__u32 dns_rule;		/* that says so */
};
_Static_assert(sizeof(struct endpoint) == 72, "endpoint changed size");

enum policy_flag {
	POLICY_REFUSE_OUTSIDE = 1,	/* queries about names without a rule, also where another rule allows the resolver */
};

/* State that all endpoints share. 48 bytes. */
struct policy_state {
	__u32 revision;		/* counts policy changes; connections judged under another are judged again */
	__u32 hash_seed;	/* so that nobody can choose whose opening connection makes room for his own */
	__u32 connections_share;	/* how many tracked connections one endpoint may have */
	__u32 opening_s;	/* life of a TCP connection before an answer */
	__u32 established_s;
	__u32 closing_s;
	__u32 unanswered_s;	/* of other protocols */
	__u32 answered_s;
	__u32 addresses_share;	/* how many addresses one endpoint may know by name */
	__u32 name_minimum_s;	/* an address is known by a name so long at least, whatever its TTL */
	__u16 refusal;		/* DNS response code for queries about names without a rule */
	__u16 flags;		/* enum policy_flag */
	__u32 pad;
};
_Static_assert(sizeof(struct policy_state) == 48, "policy_state changed size");

/* An address as one endpoint knows it. 20 bytes. */
struct known_key {
	__u8 address[16];
	__u32 endpoint;
};
_Static_assert(sizeof(struct known_key) == 20, "known_key changed size");

/* Under which pattern, and until when. Programs read and write both as one word. 8 bytes, aligned; 0 = unused. */
struct known_pattern {
	__u32 expires_s;	/* seconds of bpf_ktime_get_ns() */
	__u32 pattern;
};
_Static_assert(sizeof(struct known_pattern) == 8, "known_pattern changed size");

/* By which names an endpoint knows an address, of those that policy has patterns for. 40 bytes. */
struct known_address {
	__u64 name;		/* hash of the name that taught it last */
	struct known_pattern patterns[4];	/* ABI_ADDRESS_PATTERNS */
};
_Static_assert(sizeof(struct known_address) == 40, "known_address changed size");

/* A domain name by the hash of its wire format in lower case. 256 bytes. */
struct dns_name {
	__u8 wire[256];		/* ABI_NAME_BYTES; ends with the root label, what is behind it means nothing */
};
_Static_assert(sizeof(struct dns_name) == 256, "dns_name changed size");

/* A pattern that policy has rules for: a name, and whatever has one label or more in front of it. Id 0 = no rule. 268 bytes. */
struct name_pattern {
	__u32 exact;
	__u32 wildcard;
	__u32 length;		/* of name, root included */
	__u8 name[256];		/* as struct dns_name: equal hashes alone prove nothing */
};
_Static_assert(sizeof(struct name_pattern) == 268, "name_pattern changed size");

/* The rules of a rule set for addresses that are known by a pattern. */
struct named_key {
	__u32 rule_set;
	__u32 pattern;
};
_Static_assert(sizeof(struct named_key) == 8, "named_key changed size");

/* A query that waits for its answer. 28 bytes. */
struct query_key {
	__u8 resolver[16];
	__u32 endpoint;
	__be16 port;		/* of the endpoint */
	__be16 id;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct query_key) == 28, "query_key changed size");

/* 24 bytes. */
struct query {
	__u64 name;		/* hash of the question's name */
	__u64 expires_ns;
	__u32 waiting;		/* how often it was sent, less the answers so far */
	__u32 pad;
};
_Static_assert(sizeof(struct query) == 24, "query changed size");

/* The share that one endpoint takes of the maps that names need. 16 bytes. */
struct name_share {
	__u64 window_ns;	/* queries are counted from then on */
	__u32 queries;		/* without an answer in this window */
	__u32 addresses;	/* known; programs count up, the engine counts anew */
};
_Static_assert(sizeof(struct name_share) == 16, "name_share changed size");

/* 8 bytes. */
struct connection_share {
	__u32 connections;	/* tracked for one endpoint; programs count up, the engine counts anew */
	__u32 pad;
};
_Static_assert(sizeof(struct connection_share) == 8, "connection_share changed size");

/* Longest prefix match; canonical, host bits zero. 20 bytes. */
struct network_key {
	__u32 prefix_bits;	/* of 128: an IPv4 prefix counts from 96 */
	__u8 address[16];
};
_Static_assert(sizeof(struct network_key) == 20, "network_key changed size");

struct policy_key {
	__u32 rule_set;
	__u32 identity;		/* of the peer */
};
_Static_assert(sizeof(struct policy_key) == 8, "policy_key changed size");

/* A rule, which policies compile to. 12 bytes. */
struct rule {
	__u32 id;		/* names policy and rule in the engine; 0 = the default */
	__u32 plugin;		/* plugin id, only with ACTION_ASK */
	__u8 action;		/* enum action */
	__u8 context;		/* enum context, only with ACTION_ASK */
	__u8 pad[2];
};
_Static_assert(sizeof(struct rule) == 12, "rule changed size");

/* A rule for a range of ports. 20 bytes. */
struct port_rule {
	struct rule rule;
	__u16 first;		/* host order */
	__u16 last;
	__u8 protocol;		/* IP protocol number; 0 = this one is not used */
	__u8 pad[3];
};
_Static_assert(sizeof(struct port_rule) == 20, "port_rule changed size");

/* 60 bytes. */
struct policy_entry {
	__u32 port_table;
	__u32 prefixes;		/* bit N: port_table has entries with N significant port bits; 0 = there is none */
	struct rule other;	/* for every protocol and port that neither near nor port_table lists */
	struct port_rule near[2];	/* ABI_PORTS_NEAR, which need no further lookup */
};
_Static_assert(sizeof(struct policy_entry) == 60, "policy_entry changed size");

struct port_key {
	__u32 port_table;
	__u16 port;		/* host order, bits beyond prefix_bits zero */
	__u8 protocol;		/* IP protocol number */
	__u8 prefix_bits;
};
_Static_assert(sizeof(struct port_key) == 8, "port_key changed size");

/* One connection as one endpoint sees it, for both of its directions. 28 bytes. */
struct connection_key {
	__u8 remote[16];
	__u32 endpoint;
	__be16 remote_port;
	__be16 local_port;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct connection_key) == 28, "connection_key changed size");

/*
 * Where what a client says first is read (hello.h), a connection goes through these, by its SYN, the server's answers and what the
 * engine says; a new SYN begins anew.
 *
 *   SYN ─▶ UNREAD ── server answers the SYN ──▶ UNREAD BEGUN ── engine: pass ──▶ + DECIDED ── server has all of it ──▶ READ
 *   other packet ─▶ UNREAD PICKED_UP ─────────────────────────── engine: pass ──▶ + DECIDED ── server has all of it ──▶ READ
 *   policy reads it no more ─▶ none of them
 *
 * REPLIED comes with the first packet of the side that did not open it, CLOSING with a FIN or RST; both stay. All functions that change
 * flags, as a test reads them in the programs:
 *
 *   connection_make     + PICKED_UP
 *   connection_track    + UNREAD PICKED_UP REPLIED CLOSING    - UNREAD DECIDED BEGUN READ
 *   connection_touch    + REPLIED CLOSING
 *   packet_is_known     + REPLIED CLOSING
 *   hello_decide        + DECIDED
 *   hello_answer        + BEGUN READ    - UNREAD DECIDED BEGUN
 */
enum connection_flag {
	CONNECTION_REPLIED = 1,
	CONNECTION_CLOSING = 2,
	CONNECTION_PICKED_UP = 4,	/* older than its entry: no SYN was seen */
	CONNECTION_UNREAD = 8,		/* what its client says first is read before it passes */
	CONNECTION_DECIDED = 16,	/* it was read up to read_to and let through, but the server may not have all of that yet */
	CONNECTION_READ = 32,		/* it was read, and the server has it: everything passes */
	CONNECTION_BEGUN = 64,		/* unread, and the server has answered its SYN: read_to is of the stream which it hears */
};

/* The detours of a connection's packets on their way; bits, 0 = they go straight to where they are sent. */
enum flow_path {
	FLOW_PATH_PROXIED = 1,		/* the engine's proxy is the other end */
	FLOW_PATH_TRANSLATED = 2,	/* a backend's address takes the place of the one that it was opened to, see struct translation */
	FLOW_PATH_SERVICE = 4,	/* opened to a Service: the entry under that one's address, which says no more than who the backend is */
	FLOW_PATH_BACKEND = 8,	/* the same under the backend's: judged by it, and what it answers gets the Service's address */
	FLOW_PATH_ONLY = 16,	/* beside it: no tracked connection, but the other address of what passes packet by packet */
};

/* An address and port to stand in another one's place: where a connection goes that was opened to it, or comes from. 20 bytes. */
struct translation {
	__u8 address[16];
	__be16 port;
	__u8 pad[2];
};
_Static_assert(sizeof(struct translation) == 20, "translation changed size");

/* 72 bytes. */
struct connection {
	__u64 expires_ns;
	__u8 local[16];		/* the endpoint's own address: packets with another one are not of this connection */
	__u32 revision;		/* of policy, when the connection was judged */
	__u32 epoch;		/* of the plugin that allowed it */
	__u32 plugin;		/* 0 = allowed without a plugin */
	__u32 peer_identity;	/* that the plugin was asked about */
	__u8 direction;		/* enum direction: who opened it */
	__u8 flags;		/* enum connection_flag */
	__u8 context;		/* enum context in which the plugin was asked */
	__u8 path;		/* enum flow_path bits */
	__u32 read_to;		/* TCP, while it is unread: the client's sequence number up to which all was read and let through; 0 = not known */
	__u32 service;		/* the backend set of the Service that it was opened to; 0 = none */
	struct translation other;	/* its other address, with the paths that have one */
};
_Static_assert(sizeof(struct connection) == 72, "connection changed size");

/* An endpoint with an interface, as the proxy's packets find it. 8 bytes. */
struct local_endpoint {
	__u32 id;
	__u32 peered;		/* 1: its interface is a veth whose other end is in a network of its own, where packets can be put directly */
};
_Static_assert(sizeof(struct local_endpoint) == 8, "local_endpoint changed size");

/* The destination that a process connected its socket to, where policy has the requests on it decided. 48 bytes. */
struct origin {
	struct translation opened;	/* what the process has said */
	struct translation sent;	/* where its packets go: there, to a backend, or to the proxy */
	__u32 endpoint;
	__u32 proxied;		/* 1: to the proxy */
};
_Static_assert(sizeof(struct origin) == 48, "origin changed size");

/* The two ends of a socket that the proxy's listener has accepted, and what the process on the other one meant. 88 bytes. */
struct accepted {
	struct translation local;
	struct translation remote;
	struct origin origin;	/* the answer */
};
_Static_assert(sizeof(struct accepted) == 88, "accepted changed size");

/* The sockets that the proxy listens on: for pods every address in a network of its own, for processes the loopback of the node. */
enum proxy_listener {
	PROXY_LISTENER_PODS = 0,
	PROXY_LISTENER_IPV4 = 1,
	PROXY_LISTENER_IPV6 = 2,
	PROXY_LISTENER_MAX = 3,
};

/* Link address of the proxy's interface. A macro, for no enumeration holds it; only C knows it. */
#define PROXY_LINK_ADDRESS { 0x02, 0x73, 0x6c, 0x75, 0x69, 0x78 }

enum backend_set_id {
	BACKEND_SET_SERVICE = 1,	/* in rule_backends: the set of the address that a connection was opened to */
};

enum backend_index {
	BACKEND_INDEX_IPV6 = 0x40000000,
};

/* Where connections go that a verdict sends to a set, or that a rule about requests sends nowhere else. 8 bytes. */
struct backend_set {
	__u32 ipv4;		/* how many backends have an address of that family */
	__u32 ipv6;
};
_Static_assert(sizeof(struct backend_set) == 8, "backend_set changed size");

struct backend_key {
	__u32 set;
	__u32 index;		/* among those of its family; BACKEND_INDEX_IPV6 beside it for the second one */
};
_Static_assert(sizeof(struct backend_key) == 8, "backend_key changed size");

enum service_port {
	SERVICE_PORT_NODE = 0,	/* an entry without a Service: the address is a node's, where node ports lead to Services */
};

/* Where a Service takes connections. A node port stands under the address ::, whatever node it is asked of. 20 bytes. */
struct service_key {
	__u8 address[16];
	__be16 port;
	__u8 protocol;		/* IP protocol number */
	__u8 pad;
};
_Static_assert(sizeof(struct service_key) == 20, "service_key changed size");

/* 8 bytes. */
struct service {
	__u32 set;		/* of its backends */
	__u32 affinity_s;	/* a client has the same backend until so long after its last connection; 0 = it need not */
};
_Static_assert(sizeof(struct service) == 8, "service changed size");

/* A client of a Service that keeps clients with their backends. 12 bytes. */
struct affinity_key {
	__u32 set;
	__u32 endpoint;
	__u8 ipv6;		/* 1 or 0 */
	__u8 pad[3];
};
_Static_assert(sizeof(struct affinity_key) == 12, "affinity_key changed size");

/* 32 bytes. */
struct affinity {
	__u64 expires_ns;
	struct translation backend;
	__u32 pad;
};
_Static_assert(sizeof(struct affinity) == 32, "affinity changed size");

/* A datagram in fragments, of which the first one passed. 44 bytes. */
struct fragment_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 id;
	__u32 endpoint;
	__u8 protocol;
	__u8 direction;		/* enum direction */
	__u8 pad[2];
};
_Static_assert(sizeof(struct fragment_key) == 44, "fragment_key changed size");

/* 24 bytes. */
struct fragment {
	__u64 until_ns;		/* the later ones may pass */
	__u8 other[16];		/* an address that takes the place of the remote one; all zero: none does */
};
_Static_assert(sizeof(struct fragment) == 24, "fragment changed size");

enum plugin_status {
	PLUGIN_OFF = 0,		/* zero, so that an id nobody registered gets the failure policy "deny" */
	PLUGIN_ON = 1,
};

/* 24 bytes. */
struct plugin_state {
	__u64 name;		/* first 8 bytes of the SHA-256 of the plugin's name: whose id this is */
	__u64 module;		/* the same of module and configuration: what the epoch stands for */
	__u32 epoch;
	__u8 failure;		/* enum verdict, VERDICT_ALLOW or deny */
	__u8 status;		/* enum plugin_status */
	__u8 scopes;		/* enum scope bits that its verdicts have used */
	__u8 pad;
};
_Static_assert(sizeof(struct plugin_state) == 24, "plugin_state changed size");

/* Fields that the scope does not cover are zero. 52 bytes. */
struct verdict_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 source_identity;
	__u32 destination_identity;
	__u32 plugin;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 scope;		/* enum scope, never SCOPE_NONE */
	__u8 direction;
	__u8 context;
};
_Static_assert(sizeof(struct verdict_key) == 52, "verdict_key changed size");

/* The engine's decision for a scope. 24 bytes. */
struct verdict_entry {
	__u64 expires_ns;
	__u32 epoch;		/* version of the plugin that said so */
	__u32 backend_set;	/* with VERDICT_ROUTE */
	__u8 verdict;		/* enum verdict, never VERDICT_NEXT */
	__u8 once;		/* 1: for one connection, gone when that connection is tracked */
	__u8 pad[6];
};
_Static_assert(sizeof(struct verdict_entry) == 24, "verdict_entry changed size");

enum ask_flag {
	ASK_ESTABLISHED = 1,	/* of a connection that was allowed before */
	ASK_VLAN = 2,		/* vlan_tci is set: the tag is not among the packet's bytes */
	ASK_AGAIN = 16,		/* of a connection that was read and let through already, up to read_to */
	ASK_REFUSED = 32,	/* a DNS query over TCP about a name without a rule: response_code says so */
	ASK_PROXIED = 64,	/* from the engine's proxy */
	/* Set by the engine in what it sends on: the decision travels with the packet. */
	ASK_DECIDED = 4,	/* passes, and with it what it belongs to */
	ASK_PASSED = 8,		/* passes by itself: nothing is decided yet */
};

/* Values that are added to the engine's token in the mark of what it sends. */
enum mark {
	MARK_DECIDED = 0,	/* as ASK_DECIDED */
	MARK_PASSED = 1,	/* as ASK_PASSED */
	MARK_FORWARDED = 2,	/* the proxy's, on its way from a pod's interface as if the pod had sent it */
	MARK_PROXIED = 3,	/* the proxy's, held on its way to a pod */
	MARK_REFUSAL = 4,	/* an answer in the place of who was not there to give one, on its way to a pod */
	MARK_MAX = 5,
};

/* Beside an interface's index in the mark of a packet on its way back to it. */
enum release {
	RELEASE_DECIDED = 0x40000000,	/* as ASK_DECIDED */
	RELEASE_PASSED = 0x20000000,	/* as ASK_PASSED */
};

/* The kernel handing a tagged flow to the engine; the packet's bytes follow, from the link header on. 104 bytes. */
struct ask {
	__u64 time_ns;
	__u64 name;		/* hash of the name by which the endpoint knows its peer, or 0 */
	__u8 source[16];
	__u8 destination[16];
	__u32 source_identity;
	__u32 destination_identity;
	__u32 endpoint;		/* its interface */
	__u32 rule;
	__u32 plugin;
	__u32 length;		/* bytes of the packet */
	__u32 gso_size;		/* 0 = one packet; otherwise the payload bytes of each segment */
	__be16 source_port;
	__be16 destination_port;
	__u16 network_offset;	/* of the IP header, in the packet's bytes */
	__u16 transport_offset;
	__u16 vlan_tci;
	__be16 vlan_protocol;
	__u8 protocol;
	__u8 direction;
	__u8 context;
	__u8 flags;		/* enum ask_flag */
	__u32 read_to;		/* in the tls context, as struct connection has it */
	__u32 service;		/* the backend set of the Service that it was opened to, in place of whose address the destination stands; 0 = none */
	__u8 response_code;	/* with ASK_REFUSED, of DNS */
	__u8 pad[3];
};
_Static_assert(sizeof(struct ask) == 104, "ask changed size");

/* How far a packet could be read. */
enum parsed {
	PARSED_NOTHING = 0,
	PARSED_FLOW = 1,		/* everything that a rule can ask for */
	PARSED_NOT_IP = 2,
	PARSED_NEIGHBOR = 3,		/* neighbour discovery from this link */
	PARSED_LATER_FRAGMENT = 4,	/* no ports: they were in the first one */
	PARSED_MALFORMED = 5,		/* addresses and protocol are zero, or what it claims; no ports */
};

/*
 * A decision of the kernel alone: packets that it dropped, as many of each reason as an endpoint has a share of, and what passed by a
 * failure policy. What parsed says was not read is
 * zero; so are identities that nobody knows. 88 bytes.
 */
struct flow_record {
	__u64 time_ns;
	__u64 name;		/* as struct ask; of a DNS query, of the name that it asks for */
	__u8 source[16];
	__u8 destination[16];
	__u32 source_identity;
	__u32 destination_identity;
	__u32 endpoint;
	__u32 rule;
	__u32 plugin;
	__u32 service;		/* as struct ask */
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 direction;
	__u8 verdict;		/* enum verdict */
	__u8 reason;		/* enum reason */
	__u8 parsed;		/* enum parsed */
	__u8 pad[7];
};
_Static_assert(sizeof(struct flow_record) == 88, "flow_record changed size");

/* Written by the engine through shared memory. 48 bytes. */
struct engine_state {
	__u64 heartbeat_ns;
	__u64 stale_ns;		/* a heartbeat older than this means that nobody answers */
	__u32 abi_version;
	__u32 token;		/* with enum mark the mark of packets that this engine sends; never 0 */
	__u32 sink;		/* an interface behind which nobody listens */
	__u32 proxy;		/* the interface behind which the proxy is; 0 = there is none */
	__u64 proxy_heartbeat_ns;
	__u64 network;		/* cookie of the network in which the proxy listens for processes */
};
_Static_assert(sizeof(struct engine_state) == 48, "engine_state changed size");

/* The parts of the chain that are switched on, 1 or 0 each: constants of the programs, set before they are loaded. 4 bytes. */
struct stage_switches {
	__u32 names;		/* DNS messages are read: some endpoint has rules about names, or a plugin that sees answers */
};
_Static_assert(sizeof(struct stage_switches) == 4, "stage_switches changed size");

/* The words of the explain program's answer, by their indexes. */
enum explanation {
	EXPLANATION_REASON = 0,
	EXPLANATION_RULE_SET = 1,
	EXPLANATION_PEER_IDENTITY = 2,
	EXPLANATION_RULE = 3,
	EXPLANATION_ACTION = 4,
	EXPLANATION_MAX = 5,
};

struct counter {
	__u64 packets;
	__u64 bytes;
};
_Static_assert(sizeof(struct counter) == 16, "counter changed size");

#endif
