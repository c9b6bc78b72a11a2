#include "lib/store/backend.h"

namespace postern::store {

std::unique_ptr<Backend> make_mbox_backend() { return nullptr; }

}  // namespace postern::store
