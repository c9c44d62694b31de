/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Never loaded: compiled only so that its BTF names what the engine must know of sluice.h, from which engine/native.gen.ts is
 * generated. A type that no global uses is absent from BTF, so each one stands here once.
 */
#include "sluice.h"

#define EXPORT_ENUM(name) enum sluice_##name abi_enum_##name
#define EXPORT_STRUCT(name) struct sluice_##name abi_struct_##name

EXPORT_ENUM(attachment);
EXPORT_ENUM(veth_limit);
EXPORT_ENUM(socket_operation);
EXPORT_ENUM(socket_event);

EXPORT_STRUCT(map_size);
EXPORT_STRUCT(object_plan);
EXPORT_STRUCT(veth);
EXPORT_STRUCT(connection_count);
EXPORT_STRUCT(record_header);
EXPORT_STRUCT(proxy_parts);
EXPORT_STRUCT(sockets_turn);
EXPORT_STRUCT(socket_command);
EXPORT_STRUCT(socket_record);
EXPORT_STRUCT(socket_ends);
EXPORT_STRUCT(sockets_memory);
EXPORT_STRUCT(flow_turn);
EXPORT_STRUCT(flow_memory);
