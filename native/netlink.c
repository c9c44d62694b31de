/* SPDX-License-Identifier: Apache-2.0 */
/* The requests to rtnetlink(7) that the engine's own veth pairs and the proxy's network take. */
#include "netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The largest that veth takes: a held packet of any interface fits. */
#define LARGEST_MTU 65535
/* RTM_GETLINK says some 2 KiB of one interface. */
#define LINK_BYTES 16384

struct rtattr *request_add(struct request *request, uint16_t type, const void *data, uint16_t length)
{
	struct rtattr *attribute = (void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(length);
	if (length)
		memcpy(RTA_DATA(attribute), data, length);
	request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
	return attribute;
}

void request_close(struct request *request, struct rtattr *nest)
{
	nest->rta_len = (uint16_t)((char *)request + request->header.nlmsg_len - (char *)nest);
}

struct request request_begin(uint16_t type, uint16_t flags, uint32_t fixed)
{
	struct request request;

	memset(&request, 0, sizeof(request));
	request.header.nlmsg_len = NLMSG_LENGTH(fixed);
	request.header.nlmsg_type = type;
	request.header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	return request;
}

static int request_send(const struct request *request)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer;
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), error = 0;

	if (netlink < 0)
		return -errno;
	if (send(netlink, request, request->header.nlmsg_len, 0) < 0 || recv(netlink, &answer, sizeof(answer), 0) < 0)
		error = -errno;
	else if (answer.header.nlmsg_type != NLMSG_ERROR)
		error = -EPROTO;
	else
		error = answer.error.error;
	close(netlink);
	return error;
}

const struct rtattr *attribute_find(const struct rtattr *attribute, size_t length, uint16_t type)
{
	for (; RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length))
		if ((attribute->rta_type & NLA_TYPE_MASK) == type)
			return attribute;
	return NULL;
}

int netlink_link_is_peered(uint32_t ifindex)
{
	struct request request = request_begin(RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	union {
		struct nlmsghdr header;
		char bytes[LINK_BYTES];
	} answer;
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), error = 0;
	const struct rtattr *attributes, *info, *kind = NULL;
	size_t length;

	if (netlink < 0)
		return -errno;
	request.header.nlmsg_flags = NLM_F_REQUEST;
	request.link.ifi_index = (int)ifindex;
	if (send(netlink, &request, request.header.nlmsg_len, 0) < 0 || recv(netlink, &answer, sizeof(answer), 0) < 0)
		error = -errno;
	close(netlink);
	if (error)
		return error;
	if (answer.header.nlmsg_type == NLMSG_ERROR)
		return ((struct nlmsgerr *)NLMSG_DATA(&answer.header))->error;
	attributes = IFLA_RTA((struct ifinfomsg *)NLMSG_DATA(&answer.header));
	length = IFLA_PAYLOAD(&answer.header);
	info = attribute_find(attributes, length, IFLA_LINKINFO);
	if (info)
		kind = attribute_find(RTA_DATA(info), RTA_PAYLOAD(info), IFLA_INFO_KIND);
	return kind && !strcmp(RTA_DATA(kind), "veth") && attribute_find(attributes, length, IFLA_LINK_NETNSID);
}

int netlink_link_up(const char *interface, unsigned flags, uint32_t mtu)
{
	struct request request = request_begin(RTM_NEWLINK, 0, sizeof(struct ifinfomsg));

	request.link.ifi_index = (int)if_nametoindex(interface);
	request.link.ifi_flags = IFF_UP | flags;
	request.link.ifi_change = IFF_UP | flags;
	if (!request.link.ifi_index)
		return -errno;
	if (mtu)
		request_add(&request, IFLA_MTU, &mtu, sizeof(mtu));
	return request_send(&request);
}

int netlink_link_address(const char *interface, const uint8_t address[6])
{
	struct request request = request_begin(RTM_NEWLINK, 0, sizeof(struct ifinfomsg));

	request.link.ifi_index = (int)if_nametoindex(interface);
	if (!request.link.ifi_index)
		return -errno;
	request_add(&request, IFLA_ADDRESS, address, 6);
	return request_send(&request);
}

int netlink_veth_add(const char *interface, const char *peer, int peer_network)
{
	struct request request = request_begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	uint32_t network = (uint32_t)peer_network;
	struct ifinfomsg peer_link = {};
	struct rtattr *info, *data, *peer_info;

	request_add(&request, IFLA_IFNAME, interface, (uint16_t)(strlen(interface) + 1));
	info = request_add(&request, IFLA_LINKINFO, NULL, 0);
	request_add(&request, IFLA_INFO_KIND, "veth", sizeof("veth"));
	data = request_add(&request, IFLA_INFO_DATA, NULL, 0);
	peer_info = request_add(&request, VETH_INFO_PEER, &peer_link, sizeof(peer_link));
	request_add(&request, IFLA_IFNAME, peer, (uint16_t)(strlen(peer) + 1));
	if (peer_network >= 0)
		request_add(&request, IFLA_NET_NS_FD, &network, sizeof(network));
	request_close(&request, peer_info);
	request_close(&request, data);
	request_close(&request, info);
	return request_send(&request);
}

int netlink_veth_create(const char *interface, const char *peer)
{
	int error = netlink_veth_add(interface, peer, -1);

	if (error && error != -EEXIST)
		return error;
	error = netlink_link_up(peer, 0, LARGEST_MTU);
	return error ? error : netlink_link_up(interface, 0, LARGEST_MTU);
}

int netlink_route_default(int family, uint32_t ifindex, uint8_t type, uint8_t table)
{
	struct request request = request_begin(RTM_NEWROUTE, NLM_F_CREATE, sizeof(struct rtmsg));

	request.route = (struct rtmsg){
		.rtm_family = (uint8_t)family,
		.rtm_table = table,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = type == RTN_LOCAL ? RT_SCOPE_HOST : family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
		.rtm_type = type,
	};
	request_add(&request, RTA_OIF, &ifindex, sizeof(ifindex));
	return request_send(&request);
}

int netlink_rule_add(int family, const char *interface, uint8_t table)
{
	struct request request = request_begin(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct fib_rule_hdr));

	request.rule = (struct fib_rule_hdr){ .family = (uint8_t)family, .table = table, .action = FR_ACT_TO_TBL };
	request_add(&request, FRA_IIFNAME, interface, (uint16_t)(strlen(interface) + 1));
	return request_send(&request);
}

int netlink_link_delete(const char *interface)
{
	struct request request = request_begin(RTM_DELLINK, 0, sizeof(struct ifinfomsg));

	request.link.ifi_index = (int)if_nametoindex(interface);
	if (!request.link.ifi_index)
		return errno == ENODEV ? 0 : -errno;
	return request_send(&request);
}
