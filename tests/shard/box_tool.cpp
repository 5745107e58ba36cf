// SPDX-License-Identifier: BSD-3-Clause
// Boxes for another program to compare with. Each line of the input is
//   SHAPE MESH COORDINATE PLACEMENTS        such as   8,6 2,2 1,0 S0,R
// where a placement is R, S<dim>, T<dim>/<split factor> (_StridedShard) or P; "-" is a list without elements. The
// answer is a line "SIZES OFFSETS", or "refused" where it is unsupported.
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/shard/placement.h>

namespace {

using namespace torchkeep;

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text == "-" ? "" : text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

Shape numbers(const std::string& text) {
  Shape result;
  for (const std::string& part : split(text)) result.push_back(std::atoll(part.c_str()));
  return result;
}

Placement placement(const std::string& text) {
  const std::int64_t dim = std::atoll(text.c_str() + 1);
  switch (text[0]) {
    case 'S':
      return Placement::sharded(dim);
    case 'T':
      return Placement::strided(dim, std::atoll(text.c_str() + text.find('/') + 1));
    case 'P':
      return Placement::summed();
    default:
      return Placement::replicated();
  }
}

std::string join(const Shape& numbers) {
  std::string text;
  for (const std::int64_t number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text.empty() ? "-" : text;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream stream(line);
    std::string shape, mesh, coordinate, list;
    stream >> shape >> mesh >> coordinate >> list;
    std::vector<Placement> placements;
    for (const std::string& text : split(list)) placements.push_back(placement(text));
    try {
      const Box box = local_box(numbers(shape), numbers(mesh), numbers(coordinate), placements);
      std::cout << join(box.size) << ' ' << join(box.offset) << '\n';
    } catch (const Error& error) {
      std::cout << (error.code() == Code::unsupported ? "refused" : error.what()) << '\n';
    }
  }
}
