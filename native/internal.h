/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that the files of this library share with each other and with nobody else. */
#ifndef SLUICE_INTERNAL_H
#define SLUICE_INTERNAL_H

#include "sluice.h"
#include "../bpf/abi.h"

/* Collects libbpf's warnings of this thread in buffer until sluice_log__end. */
void sluice_log__begin(char *buffer, uint32_t size);
void sluice_log__end(void);

/* map.c */

/*
 * Hands every entry of a map that knows batches to visit. Not a point in time: programs write meanwhile. Returns 0 or -errno.
 */
int map_walk(int map, uint32_t key_size, uint32_t value_size,
	     void (*visit)(void *context, const void *key, const void *value), void *context);

/* netlink.c */

/* Makes a veth pair and sets both ends up with the largest MTU. Returns 0 also when interface exists. */
int netlink_veth_create(const char *interface, const char *peer);
int netlink_link_delete(const char *interface);
/* peer_network: descriptor of the network namespace that the peer is made in, or -1. */
int netlink_veth_add(const char *interface, const char *peer, int peer_network);
/* flags beside IFF_UP; mtu 0 = as it is. */
int netlink_link_up(const char *interface, unsigned flags, uint32_t mtu);
/* Returns 1 when the interface is a veth whose other end is in another network namespace, 0 when not, or -errno. */
int netlink_link_is_peered(uint32_t ifindex);
int netlink_link_address(const char *interface, const uint8_t address[6]);
/* A route for every address of a family: type RTN_UNICAST through the interface, or RTN_LOCAL. */
int netlink_route_default(int family, uint32_t ifindex, uint8_t type, uint8_t table);
/* Has what enters through the interface routed by that table. */
int netlink_rule_add(int family, const char *interface, uint8_t table);

/* link.c */

/* Attaches for as long as the interface lives, or as this process does. Returns enum sluice_attachment or -errno. */
int link_attach_passing(int program, uint32_t ifindex, uint32_t direction);

/* proxy.c */

/* Notes that the proxy lives: without it for a second, new connections get their failure policy. */
void proxy_beat(struct sluice_proxy *proxy);
/*
 * Says whose connection a listener has accepted, and what it is for. Returns 0, -ENOENT when it is nobody's whom policy sends there, or
 * -errno. proxy may be NULL for the listener for pods.
 */
int proxy_ends(const struct sluice_proxy *proxy, struct sluice_socket_ends *ends, int fd, enum proxy_listener listener);
/* As sluice_proxy__connect, from the network that this thread has opened; proxy may be NULL where it does not begin at the node. */
int proxy_connect(const struct sluice_proxy *proxy, const uint8_t *from, const uint8_t *to, uint32_t port);

/* checksum.c */

/* Where the checksum is in a header, in bytes (RFC 9293, RFC 768). */
#define TCP_CHECKSUM_OFFSET 16
#define UDP_CHECKSUM_OFFSET 6

/* Completes the transport checksum of the packet that ask describes, or prepares it for segmentation. */
void checksum_complete(const struct ask *ask, uint8_t *packet);

/* pinned-link.c */

/* Replaces the program of a pinned link. Returns 0, -ENOENT when there is none or what it was for is gone, or -errno. */
int pinned_link_update(const char *pin_path, int program);
/* Pins a link that was just made, and closes it; passes an error in its place on. */
int pinned_link_create(const char *pin_path, int link);
/* Returns 0, -ENOENT when none is pinned, or -errno. */
int pinned_link_detach(const char *pin_path);

#endif
