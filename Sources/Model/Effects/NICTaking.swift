import Values

extension Effect {
    /// A NIC, taken from its driver and marked as ours. Giving it back undoes the three effects below as well.
    package struct NICTaking: EffectValue {
        /// As it was before.
        package var state: NICState
        package var driver: String?
        /// The mark of a dead machine, which ours may replace.
        package var leftBehind: NICMark?

        private enum CodingKeys: String, CodingKey {
            case state = "_0"
            case driver = "from"
            case leftBehind = "over"
        }

        package var shellText: String {
            let unbind = driver.map { "echo \(state.address) > /sys/bus/pci/drivers/\($0)/unbind && " } ?? ""
            return unbind + "echo \(state.mark.text.shellQuoted) > \(state.folder)/driver_override &&\n    "
                + "setpci -s \(state.address) COMMAND=0:4"
        }

        package func undoText(_ folders: MachinePaths) -> String? {
            let (address, folder, mark) = (state.address, state.folder, state.mark)
            let wasUp = mark.interfaces.filter(\.isUp).map { "ip link set \($0.name.shellQuoted) up" }
            let lines = [
                "[ ! -e \(folder)/driver ] || echo \(address) > \(folder)/driver/unbind",
                "setpci -s \(address) COMMAND=0:4",
                mark.iommuType.map { "echo \($0) > \(folder)/iommu_group/type" },
                "echo \((state.override ?? "").shellQuoted) > \(folder)/driver_override",
                mark.driver.map { "echo \(address) > /sys/bus/pci/drivers/\($0)/bind" },
            ]
            return (lines.compactMap(\.self) + wasUp).joined(separator: "\n")
        }
    }

    package static func take(_ state: NICState, from driver: String? = nil, over leftBehind: NICMark? = nil) -> Effect {
        .nic(NICTaking(state: state, driver: driver, leftBehind: leftBehind))
    }

    /// The NIC that it takes.
    package var takenNIC: NICState? { if case .nic(let taking) = self { taking.state } else { nil } }

    /// Takes a NIC from others, or makes that possible.
    package var isTaking: Bool { if case .remount = self { true } else { takenNIC != nil } }

    /// Makes sure that the NICs are ours and nobody else's.
    package struct NICConfirmation: PassingEffect {
        package var states: [NICState]

        package var shellText: String {
            let looks = states.map { "grep -qx \($0.mark.text.shellQuoted) \($0.folder)/driver_override" }
            return "sleep 0.3 && \(looks.joined(separator: " && "))"
        }
    }

    package static func confirm(_ states: [NICState]) -> Effect { .confirm(NICConfirmation(states: states)) }

    /// Lets the devices of an IOMMU group see the memory's own addresses.
    package struct IOMMUType: PassingEffect {
        package var group: Int
        package var type: String
        package var address: PCIAddress

        package var shellText: String { "echo \(type) > /sys/kernel/iommu_groups/\(group)/type" }
    }

    package static func iommuType(group: Int, type: String, of address: PCIAddress) -> Effect {
        .iommuType(IOMMUType(group: group, type: type, address: address))
    }

    /// Gives a NIC of ours to this driver, whatever its id.
    package struct NICBinding: PassingEffect {
        package var address: PCIAddress
        package var driver: String
        package var mark: NICMark

        package var shellText: String {
            let override = "\(address.folder)/driver_override"
            return "echo \(driver) > \(override) && echo \(address) > /sys/bus/pci/drivers/\(driver)/bind &&\n    "
                + "echo \(mark.text.shellQuoted) > \(override)"
        }
    }

    package static func bind(address: PCIAddress, driver: String, mark: NICMark) -> Effect {
        .bind(NICBinding(address: address, driver: driver, mark: mark))
    }
}
