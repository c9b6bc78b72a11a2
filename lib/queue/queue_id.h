/// Queue ids in Postfix's two forms.
///
/// short  five upper case hexadecimal digits of microseconds, then the inode number in hexadecimal: 4A1B2C9F30
/// long   (enable_long_queue_ids) seconds in at least six and microseconds in four base-52 digits, 'z', the inode
///        number in base 51; digits are 0-9 B-Z b-z without vowels, so ids sort by time and spell no words
///
/// An id contains the inode number of its file, so no two files of one queue share an id.  That of a message that begins in memory
/// (transit.h) has a random number instead, which is higher than the inodes of a queue are.  A short id may come back after
/// its file is gone; what must tell messages apart for longer adds the arrival time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postern::queue {

/// Longest id that is accepted.
inline constexpr std::size_t kMaxQueueId = 40;

/// Random numbers go from here to twice as far.
inline constexpr std::uint64_t kFirstRandomNumber = std::uint64_t{1} << 33;

std::string make_queue_id(std::int64_t time_usec, std::uint64_t inode, bool long_form);

/// Whether `text` has the form of either kind; safe as a file name (no '/', no '.').
bool is_queue_id(std::string_view text);

/// Whether the message began in memory: its number says nothing about an inode.
bool has_random_number(std::string_view queue_id);

/// Below `directory` ("incoming", "deferred"), one flat directory: hashing is left to the file system.
std::string queue_path(std::string_view directory, std::string_view queue_id);

}  // namespace postern::queue
