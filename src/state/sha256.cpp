// SPDX-License-Identifier: BSD-3-Clause
// The only file that knows libcrypto.
#include "sha256.h"

#include <openssl/evp.h>

namespace torchkeep {
namespace {

void check(bool good) {
  if (!good) throw Error(Code::unsupported, "this machine's OpenSSL (libcrypto) does not compute SHA-256");
}

// Looked up once: the lookup costs as much as hashing a kilobyte.
const EVP_MD* algorithm() {
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  check(sha256 != nullptr);
  return sha256;
}

}  // namespace

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  Context() { check(evp != nullptr); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  start();
}

Sha256::~Sha256() = default;

void Sha256::start() {
  check(EVP_DigestInit_ex2(context_->evp, algorithm(), nullptr) == 1);
}

void Sha256::add(Bytes bytes) {
  check(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
}

Digest Sha256::finish() {
  Digest digest;
  check(EVP_DigestFinal_ex(context_->evp, reinterpret_cast<unsigned char*>(digest.data()), nullptr) == 1);
  start();
  return digest;
}

}  // namespace torchkeep
