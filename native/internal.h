/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this library share with each other and with nobody else. */
#ifndef SLUICE_INTERNAL_H
#define SLUICE_INTERNAL_H

#include "sluice.h"
#include "../bpf/abi.h"

/* Collects libbpf's warnings of this thread in buffer until sluice_log__end. */
void sluice_log__begin(char *buffer, uint32_t size);
void sluice_log__end(void);

/* netlink.c */

/* Makes a veth pair and sets both ends up with the largest MTU. Returns 0 also when interface exists. */
int netlink_veth_create(const char *interface, const char *peer);
int netlink_link_delete(const char *interface);

/* checksum.c */

/* Completes the transport checksum of the packet that ask describes, or prepares it for segmentation. */
void checksum_complete(const struct ask *ask, uint8_t *packet);

#endif
