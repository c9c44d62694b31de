/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending held packets on.
 *
 * A packet that an endpoint sent goes out on a small veth of the engine's own, marked with the endpoint's interface; the release
 * program there moves it to that interface's ingress, where from_pod now finds the verdict. One that goes to an endpoint is
 * sent on its interface and meets to_pod again. A verdict on a packet's contents is told by its mark.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEND_BATCH 64
#define ADDRESSES_LENGTH (2 * ETH_ALEN)
/* GSO for UDP (Linux 6.2 in this header), which older headers lack. */
#define GSO_UDP_L4 5

struct sluice_release {
	uint32_t ifindex;
	uint32_t token;
	int socket;
};

struct sent_packet {
	struct virtio_net_hdr offload;
	struct sockaddr_ll to;
	struct iovec parts[4];
	uint16_t tag[2];
	char control[CMSG_SPACE(sizeof(uint32_t))];
};

int sluice_release__open(const char *interface, const char *peer, int program, const char *pin_path, uint32_t token,
			 struct sluice_release **result)
{
	struct sluice_release *release;
	int error = netlink_veth_create(interface, peer), attachment, on = 1;

	if (error)
		return error;
	release = calloc(1, sizeof(*release));
	if (!release)
		return -ENOMEM;
	release->token = token;
	release->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (release->socket < 0 || setsockopt(release->socket, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on))) {
		error = -errno;
		goto fail;
	}
	release->ifindex = if_nametoindex(interface);
	if (!release->ifindex) {
		error = -errno;
		goto fail;
	}
	attachment = sluice_link__attach(program, release->ifindex, DIRECTION_INGRESS, pin_path);
	if (attachment < 0) {
		error = attachment;
		goto fail;
	}
	*result = release;
	return attachment;
fail:
	sluice_release__close(release);
	return error;
}

/* Says how the kernel is to cut a GSO packet into segments; all zero for a complete packet. */
static void offload_fill(struct virtio_net_hdr *offload, const struct ask *ask, const uint8_t *packet)
{
	int tcp = ask->protocol == IPPROTO_TCP, ipv4 = packet[ask->network_offset] >> 4 == 4;

	memset(offload, 0, sizeof(*offload));
	if (!ask->gso_size)
		return;
	offload->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	offload->gso_type = !tcp ? GSO_UDP_L4 : ipv4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	offload->gso_size = (uint16_t)ask->gso_size;
	offload->hdr_len = (uint16_t)(ask->transport_offset + (tcp ? (packet[ask->transport_offset + 12] >> 4) * 4 : 8));
	offload->csum_start = ask->transport_offset;
	offload->csum_offset = tcp ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET;
}

/* Where the packet goes back to, on the engine's own veth; what was decided about it. */
static uint32_t packet_mark(const struct sluice_release *release, const struct ask *ask)
{
	int decided = ask->flags & ASK_DECIDED, passed = ask->flags & ASK_PASSED;

	if (ask->direction == DIRECTION_EGRESS)
		return ask->endpoint | (decided ? RELEASE_DECIDED : 0) | (passed ? RELEASE_PASSED : 0);
	return decided ? release->token + MARK_DECIDED : passed ? release->token + MARK_PASSED : ask->flags & ASK_PROXIED ? release->token + MARK_PROXIED : 0;
}

static void packet_fill(struct sent_packet *sent, struct msghdr *header, const struct sluice_release *release,
			 const struct ask *ask, uint8_t *packet)
{
	int from_endpoint = ask->direction == DIRECTION_EGRESS, parts = 0;
	uint32_t split = ask->flags & ASK_VLAN ? ADDRESSES_LENGTH : 0;
	uint32_t value = packet_mark(release, ask);
	struct cmsghdr *mark;

	checksum_complete(ask, packet);
	offload_fill(&sent->offload, ask, packet);
	sent->parts[parts++] = (struct iovec){ &sent->offload, sizeof(sent->offload) };
	if (split) {
		sent->tag[0] = ask->vlan_protocol;
		sent->tag[1] = htons(ask->vlan_tci);
		sent->parts[parts++] = (struct iovec){ packet, split };
		sent->parts[parts++] = (struct iovec){ sent->tag, sizeof(sent->tag) };
		if (ask->gso_size)
			sent->offload.csum_start += sizeof(sent->tag);
	}
	sent->parts[parts++] = (struct iovec){ packet + split, ask->length - split };

	sent->to = (struct sockaddr_ll){
		.sll_family = AF_PACKET,
		.sll_ifindex = (int)(from_endpoint ? release->ifindex : ask->endpoint),
		.sll_protocol = packet[ask->network_offset] >> 4 == 4 ? htons(ETHERTYPE_IP) : htons(ETHERTYPE_IPV6),
		.sll_halen = ETH_ALEN,
	};
	memcpy(sent->to.sll_addr, packet, ETH_ALEN);
	*header = (struct msghdr){
		.msg_name = &sent->to,
		.msg_namelen = sizeof(sent->to),
		.msg_iov = sent->parts,
		.msg_iovlen = (size_t)parts,
	};
	if (!value)
		return;
	header->msg_control = sent->control;
	header->msg_controllen = sizeof(sent->control);
	mark = CMSG_FIRSTHDR(header);
	mark->cmsg_level = SOL_SOCKET;
	mark->cmsg_type = SO_MARK;
	mark->cmsg_len = CMSG_LEN(sizeof(uint32_t));
	memcpy(CMSG_DATA(mark), &value, sizeof(value));
}

/* Offsets come from outside the packet, but this memory is shared with other threads: trust nothing twice. */
static int ask_is_sound(const struct ask *ask, uint32_t record_length)
{
	return record_length >= sizeof(*ask) && ask->length <= record_length - sizeof(*ask) &&
	       ask->length >= ETH_HLEN && ask->network_offset + 20u <= ask->length &&
	       ask->transport_offset <= ask->length && ask->transport_offset >= ask->network_offset + 20u &&
	       (!ask->gso_size || ask->transport_offset + 20u <= ask->length);
}

int sluice_release__send(struct sluice_release *release, uint8_t *buffer, const uint32_t *offsets, uint32_t count,
			 int32_t *errors)
{
	static __thread struct sent_packet packets[SEND_BATCH];
	struct mmsghdr headers[SEND_BATCH];
	uint32_t index[SEND_BATCH];
	int total = 0;

	for (uint32_t next = 0; next < count;) {
		uint32_t filled = 0, sent = 0;

		for (; next < count && filled < SEND_BATCH; next++) {
			uint8_t *record = buffer + offsets[next];
			struct ask *ask = (struct ask *)(record + sizeof(struct sluice_record_header));
			struct sluice_record_header header;

			memcpy(&header, record, sizeof(header));
			errors[next] = 0;
			if (!ask_is_sound(ask, header.length)) {
				errors[next] = -EBADMSG;
				continue;
			}
			packet_fill(&packets[filled], &headers[filled].msg_hdr, release, ask, (uint8_t *)(ask + 1));
			index[filled++] = next;
		}
		while (sent < filled) {
			int done = sendmmsg(release->socket, headers + sent, filled - sent, 0);

			/* The first of those left failed; the others have not been tried. */
			if (done <= 0)
				errors[index[sent++]] = done < 0 ? -errno : -EIO;
			else
				sent += (uint32_t)done, total += done;
		}
	}
	return total;
}

void sluice_release__close(struct sluice_release *release)
{
	if (release->socket >= 0)
		close(release->socket);
	free(release);
}

int sluice_release__remove(const char *interface)
{
	return netlink_link_delete(interface);
}
