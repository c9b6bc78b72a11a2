/// inotify for Mailbox::watch().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/store/shared.h"

namespace postern::store {

/// `view` must outlive the watch; drain() tells it when the directories themselves changed.
Result<std::unique_ptr<Watch>> make_watch(const std::vector<std::string>& directories, const std::string& index_file,
                                          ViewState& view);

}  // namespace postern::store
